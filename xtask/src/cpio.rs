//! Writes cpio archives in the "newc" form, the kernel's initramfs format
//! (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Owners, times and inode numbers are fixed, so that the same files give the same bytes.

use std::fmt::Write;

/// A regular file of the archive.
pub(crate) struct Entry<'a> {
    /// Its path, without a leading slash.
    pub(crate) name: &'a str,
    /// Its permissions.
    pub(crate) mode: u32,
    /// Its contents.
    pub(crate) data: &'a [u8],
}

/// `S_IFREG`.
const REGULAR: u32 = 0o100_000;

/// The archive of `entries`; `None` when one is too long for the format (4 GiB).
pub(crate) fn archive(entries: &[Entry<'_>]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for (number, entry) in (1u32..).zip(entries) {
        append(&mut bytes, number, REGULAR | entry.mode, entry.name, entry.data)?;
    }
    append(&mut bytes, 0, 0, "TRAILER!!!", &[])?;
    Some(bytes)
}

fn append(bytes: &mut Vec<u8>, inode: u32, mode: u32, name: &str, data: &[u8]) -> Option<()> {
    let name_size = u32::try_from(name.len() + 1).ok()?;
    let size = u32::try_from(data.len()).ok()?;
    // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
    let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    let mut header = String::from("070701");
    for field in fields {
        write!(header, "{field:08x}").expect("a String takes all that is written");
    }
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
    pad(bytes);
    bytes.extend_from_slice(data);
    pad(bytes);
    Some(())
}

/// Names and contents end at a multiple of four bytes.
fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_the_format_says_byte_for_byte() {
        let bytes = archive(&[Entry { name: "init", mode: 0o755, data: b"#!x\n+" }]).expect("fits");
        let expected = [
            b"070701000000010000 81ed 00000000 00000000 00000001 00000000 00000005".as_slice(),
            b"00000000 00000000 00000000 00000000 00000005 00000000",
            b"init\0\0",
            b"#!x\n+\0\0\0",
            b"070701 00000000 00000000 00000000 00000000 00000001 00000000 00000000",
            b"00000000 00000000 00000000 00000000 0000000b 00000000",
            b"TRAILER!!!\0\0\0\0",
        ];
        let mut plain: Vec<u8> = expected.concat();
        plain.retain(|&byte| byte != b' ');
        assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&plain));
    }

    #[test]
    fn every_part_is_aligned_and_the_same_input_gives_the_same_bytes() {
        for length in 0..9 {
            let data = vec![7; length];
            let make = || archive(&[Entry { name: "a/b", mode: 0o644, data: &data }]).expect("fits");
            assert_eq!(make().len() % 4, 0);
            assert_eq!(make(), make());
        }
    }
}
