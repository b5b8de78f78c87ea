//! Whole images: written from tars, then looked at by `fsck.erofs`, by the kernel and by our own reader.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::*;

/// Entries for a tar, with short words for what the tests need.
pub(crate) struct TarMaker(tar::Builder<Vec<u8>>);

impl TarMaker {
    pub(crate) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    pub(crate) fn add(mut self, kind: u8, path: &str, data: &[u8]) -> Self {
        self.append(kind, path, data, |_| {});
        self
    }

    pub(crate) fn append(&mut self, kind: u8, path: &str, data: &[u8], change: impl Fn(&mut tar::Header)) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(data.len() as u64);
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_device_major(0).unwrap();
        header.set_device_minor(0).unwrap();
        change(&mut header);
        // Not through `set_path`, which refuses the hostile names that are tested here.
        let name = path.as_bytes();
        if name.len() < 100 {
            header.as_old_mut().name[..name.len()].copy_from_slice(name);
        } else {
            let mut long = tar::Header::new_gnu();
            long.set_entry_type(tar::EntryType::GNULongName);
            long.set_size(name.len() as u64);
            long.set_cksum();
            self.0.append(&long, name).unwrap();
        }
        header.set_cksum();
        self.0.append(&header, data).unwrap();
    }

    pub(crate) fn link(mut self, kind: u8, path: &str, target: &str) -> Self {
        self.append(kind, path, b"", |header| header.set_link_name_literal(target).unwrap());
        self
    }

    pub(crate) fn xattrs(mut self, pairs: &[(&str, &[u8])]) -> Self {
        let records: Vec<_> =
            pairs.iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), *value)).collect();
        self.0.append_pax_extensions(records.iter().map(|(name, value)| (name.as_str(), *value))).unwrap();
        self
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// Writes the layer and has `fsck.erofs` check it, where that is installed.
fn image(tar: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let summary = write_layer(tar, file.as_file_mut(), Limits::default()).unwrap();
    assert_eq!(summary.bytes, file.as_file().metadata().unwrap().len());
    assert_eq!(summary.bytes % 4096, 0);
    match Command::new("fsck.erofs").arg("--extract").arg(file.path()).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{text}");
        }
        Err(error) => println!("skipped: the check by fsck.erofs ({error})"),
    }
    file
}

/// Prints why the running test cannot look at everything here, and leaves it where `cargo xtask test` counts it.
fn skip(reason: &str) {
    println!("skipped: {reason}");
    let thread = std::thread::current();
    if let (Some(path), Some(name)) = (std::env::var_os("CARVE_TEST_SKIPS"), thread.name()) {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(format!("{name}: {reason}\n").as_bytes()).unwrap();
    }
}

/// Runs `script` in a mount namespace of its own with the images mounted at `$1`, `$2`…; its output.
/// None, with the reason printed, where mounting is not possible.
fn with_mounted(images: &[&Path], script: &str) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        skip("mounting needs root");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut setup = "set -e; cd \"$0\"; ".to_owned();
    for (index, image) in (1..).zip(images) {
        let image = image.display();
        setup += &format!("mkdir {index}; mount -t erofs -o ro {image} {index}; ");
    }
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &format!("{setup}{script}")])
        .arg(directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Some(text)
}

/// Path, type, mode, owner, size (of what is not a directory), time, link target and number of links.
const LIST: &str = r"find . \( -type d -printf '%P|%y|%m|%U:%G|-|%T@|%l|%n\n' -o -printf '%P|%y|%m|%U:%G|%s|%T@|%l|%n\n' \) | sort";

/// What a node of a generated tree is.
#[derive(Debug, Clone)]
enum Made {
    Directory(Vec<(String, Item)>),
    File(u32),
    Symlink(String),
    Fifo,
    Device(u32, u32),
}

#[derive(Debug, Clone)]
struct Item {
    made: Made,
    mode: u32,
    owner: (u32, u32),
    mtime: u32,
    xattr: Option<Vec<u8>>,
}

fn made() -> impl Strategy<Value = Made> {
    prop_oneof![
        3 => prop_oneof![0..100u32, 3900..4300u32, 0..20_000u32, 60_000..140_000u32].prop_map(Made::File),
        1 => "[a-z/]{1,80}".prop_map(Made::Symlink),
        1 => "[a-z]{4000}".prop_map(Made::Symlink),
        1 => Just(Made::Fifo),
        1 => (1..4096u32, 0..1_048_576u32).prop_map(|(major, minor)| Made::Device(major, minor)),
    ]
}

fn item(made: impl Strategy<Value = Made>) -> impl Strategy<Value = Item> {
    let xattr = prop::option::weighted(0.2, prop::collection::vec(any::<u8>(), 0..300));
    (made, 0..0o10_000u32, (any::<u16>(), 0..200_000u32), 0..2_000_000_000u32, xattr).prop_map(
        |(made, mode, owner, mtime, xattr)| Item {
            made,
            mode,
            owner: (owner.0.into(), owner.1),
            mtime,
            xattr,
        },
    )
}

fn tree() -> impl Strategy<Value = Item> {
    let names = || "[!-.0-~]{1,12}|[a-z]{200,255}";
    item(made()).prop_recursive(4, 60, 12, move |inner| {
        let entries = prop::collection::btree_map(names(), inner, 0..30);
        item(entries.prop_map(|map| {
            let usable = |name: &String| name != "." && name != ".." && !name.starts_with(".wh.");
            Made::Directory(map.into_iter().filter(|(name, _)| usable(name)).collect())
        }))
    })
}

/// Adds a tree to a tar, and what [`LIST`] should say about it to `expected`.
fn add_tree(maker: &mut TarMaker, expected: &mut Vec<String>, path: &str, item: &Item) {
    let (kind, letter, data, target) = match &item.made {
        Made::Directory(_) => (b'5', 'd', Vec::new(), String::new()),
        Made::File(size) => (b'0', 'f', content(path, *size), String::new()),
        Made::Symlink(target) => (b'2', 'l', Vec::new(), target.clone()),
        Made::Fifo => (b'6', 'p', Vec::new(), String::new()),
        Made::Device(..) => (b'3', 'c', Vec::new(), String::new()),
    };
    if let Some(xattr) = &item.xattr {
        let name = if matches!(item.made, Made::Symlink(_)) {
            "SCHILY.xattr.trusted.t"
        } else {
            "SCHILY.xattr.security.t"
        };
        maker.0.append_pax_extensions([(name, xattr.as_slice())]).unwrap();
    }
    if target.len() >= 100 {
        maker.0.append_pax_extensions([("linkpath", target.as_bytes())]).unwrap();
    }
    maker.append(kind, if path.is_empty() { "./" } else { path }, &data, |header| {
        header.set_mode(item.mode);
        header.set_uid(item.owner.0.into());
        header.set_gid(item.owner.1.into());
        header.set_mtime(item.mtime.into());
        if target.len() < 100 {
            header.set_link_name_literal(&target).unwrap();
        }
        if let Made::Device(major, minor) = item.made {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        }
    });
    let mut links = 1;
    let mut size = (data.len() + target.len()).to_string();
    if let Made::Directory(entries) = &item.made {
        links = 2 + entries.iter().filter(|(_, item)| matches!(item.made, Made::Directory(_))).count();
        size = "-".to_owned();
        for (name, child) in entries {
            let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            add_tree(maker, expected, &path, child);
        }
    }
    let Item { mode, owner: (uid, gid), mtime, .. } = item;
    expected.push(format!("{path}|{letter}|{mode:o}|{uid}:{gid}|{size}|{mtime}.0000000000|{target}|{links}"));
}

fn content(path: &str, size: u32) -> Vec<u8> {
    path.bytes().chain([b'\n']).cycle().take(size as usize).collect()
}

/// Digest, size and path of every file, as `sha256sum` would list them.
fn digests(expected: &mut Vec<String>, path: &str, item: &Item) {
    match &item.made {
        Made::Directory(entries) => {
            for (name, child) in entries {
                digests(expected, &format!("{path}/{name}"), child);
            }
        }
        Made::File(size) => {
            let path_in_tar = path.trim_start_matches("./");
            expected.push(format!("{}  {path}", crate::Digest::of(&content(path_in_tar, *size)).hex()));
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn the_kernel_shows_what_the_tar_held(root in tree().prop_filter("a directory", |item| matches!(item.made, Made::Directory(_)))) {
        let (mut maker, mut expected) = (TarMaker::new(), Vec::new());
        add_tree(&mut maker, &mut expected, "", &root);
        let file = image(&maker.done());
        if let Some(listed) = with_mounted(&[file.path()], &format!("cd 1; export LC_ALL=C; {LIST}")) {
            expected.sort();
            prop_assert_eq!(listed.lines().collect::<Vec<_>>(), expected);
        }
        let script = "cd 1; find . -type f -print0 | xargs -0r sha256sum | sed 's/^\\\\//'";
        if let Some(listed) = with_mounted(&[file.path()], script) {
            let mut expected = Vec::new();
            digests(&mut expected, ".", &root);
            let unescaped = listed.replace("\\\\", "\\");
            let mut listed: Vec<_> = unescaped.lines().map(str::to_owned).collect();
            listed.sort();
            expected.sort();
            prop_assert_eq!(listed, expected);
        }
    }

    #[test]
    fn the_same_tar_gives_the_same_bytes(root in tree()) {
        let (mut maker, mut expected) = (TarMaker::new(), Vec::new());
        let root = Item { made: Made::Directory(vec![("x".to_owned(), root.clone())]), ..root };
        add_tree(&mut maker, &mut expected, "", &root);
        let tar = maker.done();
        let bytes = || std::fs::read(image(&tar).path()).unwrap();
        prop_assert!(bytes() == bytes());
    }

    #[test]
    fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..3000), at in 0..2048usize, byte: u8) {
        let mut file = tempfile::tempfile().unwrap();
        let _ = write_layer(&data[..], &mut file, Limits::default());
        let mut tar = TarMaker::new().add(b'5', "d", b"").add(b'0', "d/f", b"hello").done();
        tar[at] = byte;
        let _ = write_layer(&tar[..], &mut file, Limits::default());
    }
}

#[test]
fn an_empty_tar_is_an_empty_directory() {
    let file = image(b"");
    if let Some(listed) = with_mounted(&[file.path()], &format!("cd 1; {LIST}")) {
        assert_eq!(listed, "|d|755|0:0|-|0.0000000000||2\n");
    }
}

#[test]
fn long_links_and_directories_each_get_their_own_blocks() {
    let mut maker = TarMaker::new();
    for n in (0..20).rev() {
        let target = n.to_string().repeat(4000 / (1 + usize::from(n > 9)));
        maker
            .0
            .append_pax_extensions([("linkpath", target.as_bytes()), ("SCHILY.xattr.trusted.t", &[n; 100])])
            .unwrap();
        maker = maker.add(b'2', &format!("link{n}"), b"");
        for entry in 0..n {
            maker = maker.add(b'6', &format!("dir{n}/{entry}{}", "e".repeat(250)), b"");
        }
    }
    let file = image(&maker.done());
    let script = "cd 1; for n in $(seq 0 19); do readlink link$n | cut -c1-2; done; ls dir17 | wc -l; ls dir18 | wc -l";
    if let Some(text) = with_mounted(&[file.path()], script) {
        let mut expected: String = (0..10).map(|n| format!("{n}{n}\n")).collect();
        expected.extend((10..20).map(|n| format!("{n}\n")));
        assert_eq!(text, expected + "17\n18\n");
    }
}

#[test]
fn large_directories_and_hard_links_work() {
    let mut maker = TarMaker::new().add(b'0', "first", b"data");
    for n in 0..5000 {
        maker = maker.link(b'1', &format!("many/link-to-the-first-file-{n}"), "./first");
    }
    let file = image(&maker.done());
    let script = "cd 1; ls -U many | wc -l; ls -id first many/* | awk '{print $1}' | sort -u | wc -l; \
                  stat -c %h first; cat many/link-to-the-first-file-4321";
    if let Some(text) = with_mounted(&[file.path()], script) {
        assert_eq!(text, "5000\n1\n5001\ndata");
    }
}

#[test]
fn extended_attributes_reach_the_kernel() {
    let capability = b"\x01\x00\x00\x02\x00\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let maker = TarMaker::new()
        .xattrs(&[("security.capability", capability), ("user.note", b"two\nlines")])
        .add(b'0', "ping", b"x")
        .xattrs(&[("user.big", &[b'v'; 5000]), ("trusted.t", b"1")])
        .add(b'0', "big", &[b'd'; 100]);
    let file = image(&maker.done());
    let packed = tempfile::NamedTempFile::new().unwrap();
    let script = format!("tar -C 1 --xattrs --xattrs-include='*' -cf {} ping big", packed.path().display());
    if with_mounted(&[file.path()], &script).is_some() {
        let mut tar = crate::tar_stream::TarStream::new(std::fs::File::open(packed.path()).unwrap());
        let ping = tar.next_entry().unwrap().unwrap();
        assert_eq!(ping.xattrs[&b"security.capability"[..]], capability);
        assert_eq!(ping.xattrs[&b"user.note"[..]], b"two\nlines");
        let big = tar.next_entry().unwrap().unwrap();
        assert_eq!(big.xattrs[&b"user.big"[..]], [b'v'; 5000]);
        assert_eq!((big.xattrs.len(), big.size), (2, 100));
    }
}

#[test]
fn whiteouts_and_opaque_directories_hide_what_is_below() {
    let below = TarMaker::new()
        .add(b'0', "gone", b"1")
        .add(b'0', "kept", b"1")
        .add(b'0', "opaque/old", b"1")
        .add(b'0', "remade/old", b"1")
        .add(b'0', "merged/old", b"1")
        .add(b'0', "removed/a/b", b"1");
    let above = TarMaker::new()
        .add(b'0', ".wh.gone", b"")
        .add(b'0', "opaque/.wh..wh..opq", b"")
        .add(b'0', "opaque/new", b"2")
        .add(b'0', ".wh.remade", b"")
        .add(b'0', "remade/new", b"2")
        .add(b'0', "merged/new", b"2")
        .add(b'0', ".wh.removed", b"")
        .add(b'0', ".wh..wh.plnk/1.2", b"")
        .add(b'0', "kept", b"2");
    let (below, above) = (image(&below.done()), image(&above.done()));
    let script = "mkdir m; mount -t overlay none -o ro,lowerdir=2:1 m; cd m; find . -type f | sort; cat kept";
    if let Some(text) = with_mounted(&[below.path(), above.path()], script) {
        assert_eq!(text, "./kept\n./merged/new\n./merged/old\n./opaque/new\n./remade/new\n2");
    }
}

#[test]
fn a_layer_of_zeros_takes_no_disk() {
    use std::os::unix::fs::MetadataExt;
    let file = image(&TarMaker::new().add(b'0', "zeros", &vec![0; 64 << 20]).done());
    let metadata = file.as_file().metadata().unwrap();
    assert!(metadata.len() > 64 << 20);
    assert!(metadata.blocks() * 512 < 1 << 20);
    if let Some(text) = with_mounted(&[file.path()], "cd 1; cmp -n 67108864 zeros /dev/zero && wc -c < zeros")
    {
        assert_eq!(text, "67108864\n");
    }
}

#[test]
fn hostile_layers_are_refused_with_a_reason() {
    let maker = TarMaker::new;
    let deep = "d/".repeat(2050);
    let long_target = {
        let mut maker = TarMaker::new();
        maker.0.append_pax_extensions([("linkpath", vec![b't'; 5000].as_slice())]).unwrap();
        maker.add(b'2', "l", b"")
    };
    let device = {
        let mut maker = TarMaker::new();
        maker.append(b'3', "dev", b"", |header| header.set_device_major(5000).unwrap());
        maker
    };
    let truncated = {
        let mut tar = maker().add(b'0', "f", &[1; 3000]).done();
        tar.truncate(2000);
        tar
    };
    for (name, tar, part) in [
        ("dots", maker().add(b'0', "a/../../etc/passwd", b"x").done(), "holds \"..\""),
        ("dot dot alone", maker().add(b'5', "..", b"").done(), "holds \"..\""),
        ("deep", maker().add(b'0', &deep, b"x").done(), "longer than 4096"),
        ("link out", maker().link(b'1', "l", "../../etc/shadow").done(), "holds \"..\""),
        ("dangling", maker().link(b'1', "l", "nothing").done(), "points to \"nothing\""),
        ("directory link", maker().add(b'5', "d", b"").link(b'1', "l", "d").done(), "points to \"d\""),
        ("root", maker().add(b'6', "/", b"").done(), "is not a directory"),
        ("empty whiteout", maker().add(b'0', "d/.wh.", b"").done(), "whiteout of nothing"),
        ("dot whiteout", maker().add(b'0', "d/.wh...", b"").done(), "whiteout of nothing"),
        ("no target", maker().link(b'2', "l", "").done(), "1 to 4095 bytes"),
        ("long target", long_target.done(), "1 to 4095 bytes"),
        ("device", device.done(), "larger than Linux allows"),
        ("truncated", truncated, "incomplete"),
        ("loop", maker().link(b'2', "a", "b").link(b'2', "b", "a").add(b'0', "a/x", b"").done(), "too many"),
    ] {
        let mut file = tempfile::tempfile().unwrap();
        let error = write_layer(&tar[..], &mut file, Limits::default()).expect_err(name).to_string();
        assert!(error.contains(part), "{name}: {error}");
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let tar = TarMaker::new().add(b'0', "f", &[1; 100_000]).done();
    let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    full.flush().unwrap();
    assert!(matches!(write_layer(&tar[..], &mut full, Limits::default()), Err(LayerError::Write(_))));
}
