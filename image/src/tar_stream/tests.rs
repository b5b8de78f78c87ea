//! The framing, on archives that the `tar` crate wrote and on broken ones.

use super::*;

fn header(kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o100_644);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(9);
    header
}

fn read_all(data: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let mut stream = TarStream::new(data);
    let mut entries = Vec::new();
    while let Some(entry) = stream.next_entry()? {
        let mut content = Vec::new();
        let mut buffer = [0; 100];
        loop {
            match stream.read_data(&mut buffer)? {
                0 => break,
                count => content.extend_from_slice(&buffer[..count]),
            }
        }
        entries.push((entry, content));
    }
    Ok(entries)
}

#[test]
fn reads_entries_with_long_names_and_pax_records() {
    let long = format!("dir/{}", "n".repeat(300));
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header(tar::EntryType::Regular, 5), &long, &b"hello"[..]).unwrap();
    let records = [("SCHILY.xattr.user.k", &b"a\nb"[..]), ("mtime", b"1.5"), ("uid", b"3000000")];
    builder.append_pax_extensions(records).unwrap();
    builder.append_data(&mut header(tar::EntryType::Regular, 700), "b", &[1; 700][..]).unwrap();
    builder.append_link(&mut header(tar::EntryType::Symlink, 0), "l", "t".repeat(200)).unwrap();
    let entries = read_all(&builder.into_inner().unwrap()).unwrap();

    assert_eq!(entries.len(), 3);
    assert_eq!((entries[0].0.path.as_slice(), entries[0].1.as_slice()), (long.as_bytes(), &b"hello"[..]));
    assert_eq!((entries[0].0.mode, entries[0].0.uid, entries[0].0.gid), (0o644, 7, 8));
    let second = &entries[1].0;
    assert_eq!((second.uid, second.gid, entries[1].1.len()), (3_000_000, 8, 700));
    assert_eq!(second.mtime, Timestamp { seconds: 1, nanoseconds: 500_000_000 });
    assert_eq!(second.xattrs[&b"user.k"[..]], b"a\nb");
    assert_eq!((entries[2].0.kind, entries[2].0.link.len()), (EntryKind::Symlink, 200));
    assert!(entries[2].0.xattrs.is_empty(), "records belong to one entry only");
}

#[test]
fn data_that_is_not_read_is_skipped() {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header(tar::EntryType::Regular, 1000), "a", &[1; 1000][..]).unwrap();
    builder.append_data(&mut header(tar::EntryType::Regular, 1), "b", &[2][..]).unwrap();
    let data = builder.into_inner().unwrap();
    let mut stream = TarStream::new(&data[..]);
    assert_eq!(stream.next_entry().unwrap().unwrap().path, b"a");
    assert_eq!(stream.next_entry().unwrap().unwrap().path, b"b");
    assert!(stream.next_entry().unwrap().is_none());
}

#[test]
fn an_empty_stream_and_an_unterminated_archive_are_fine() {
    assert!(read_all(b"").unwrap().is_empty());
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header(tar::EntryType::Regular, 3), "a", &b"abc"[..]).unwrap();
    let data = builder.into_inner().unwrap();
    assert_eq!(read_all(&data[..1024]).unwrap().len(), 1);
    assert_eq!(read_all(&data[..512 + 3]).unwrap().len(), 1);
}

/// A header that is well-formed but for what `change` does to it.
fn one_header(change: impl FnOnce(&mut tar::Header)) -> Vec<u8> {
    let mut header = header(tar::EntryType::Regular, 0);
    header.set_path("x").unwrap();
    change(&mut header);
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn broken_archives_are_errors_that_say_why() {
    let mut checksum = one_header(|_| {});
    checksum[0] ^= 1;
    let octal = one_header(|h| h.as_old_mut().size = *b"zzzzzzzzzzz\0");
    let big_uid = one_header(|h| h.set_uid(1 << 40));
    let pax = |body: &[u8]| {
        let mut data = one_header(|h| {
            h.set_entry_type(tar::EntryType::XHeader);
            h.set_size(body.len() as u64);
        });
        data.extend_from_slice(body);
        data.resize(data.len().next_multiple_of(512), 0);
        data.extend(one_header(|_| {}));
        data
    };
    let kind = |kind: u8| one_header(|h| h.set_entry_type(tar::EntryType::new(kind)));
    let huge_pax = one_header(|h| {
        h.set_entry_type(tar::EntryType::XHeader);
        h.set_size(1 << 40);
    });
    for (name, data, part) in [
        ("text", b"not a tar".repeat(100), "not a tar archive"),
        ("short header", vec![1; 100], "incomplete"),
        ("short data", one_header(|h| h.set_size(10)), "incomplete"),
        ("endless data", one_header(|h| h.set_size(u64::MAX)), "incomplete"),
        ("checksum", checksum, "bad header checksum at byte 0"),
        ("size", octal, "bad size in the tar header of \"x\""),
        ("uid", big_uid, "bad user id"),
        ("pax", pax(b"5 a"), "bad extended tar header"),
        ("huge pax", huge_pax, "longer than 1 MiB"),
        ("pax sparse", pax(b"22 GNU.sparse.major=1\n"), "sparse file"),
        ("sparse", kind(b'S'), "sparse file"),
        ("multi-volume", kind(b'M'), "multi-volume"),
        ("unknown", kind(b'Z'), "of type 'Z'"),
    ] {
        let error = read_all(&data).expect_err(name).to_string();
        assert!(error.contains(part), "{name}: {error}");
    }
}
