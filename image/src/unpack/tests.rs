//! Unpacked trees against what the kernel shows of the same layers.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use super::*;
use crate::store::Store;

fn header(kind: u8, path: &str, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_path(path).unwrap();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_600_000_000);
    header.set_size(0);
    header.set_device_major(1).unwrap();
    header.set_device_minor(3).unwrap();
    header
}

struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn add(mut self, kind: u8, path: &str, mode: u32, data: &[u8]) -> Self {
        let mut header = header(kind, path, mode);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn link(mut self, kind: u8, path: &str, target: &str) -> Self {
        let mut header = header(kind, path, 0o777);
        header.set_link_name_literal(target).unwrap();
        header.set_cksum();
        self.0.append(&header, &b""[..]).unwrap();
        self
    }
}

fn unpack(layers: Vec<Tar>) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for (number, layer) in layers.into_iter().enumerate() {
        let path = directory.path().join(format!("{number}.tar"));
        std::fs::write(&path, layer.0.into_inner().unwrap()).unwrap();
        paths.push(path);
    }
    let store = Store::open(&directory.path().join("store")).unwrap();
    let image = store.import(&paths, &[], &"x".parse().unwrap(), &mut |_| {}).unwrap();
    let root = directory.path().join("root");
    std::fs::create_dir(&root).unwrap();
    image.unpack(&root).unwrap();
    (directory, root)
}

/// All paths below `root`, sorted.
fn paths(root: &Path) -> Vec<String> {
    let mut pending = vec![root.to_owned()];
    let mut found = Vec::new();
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(root).unwrap().display().to_string());
            if path.symlink_metadata().unwrap().is_dir() {
                pending.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn keeps_kinds_modes_times_links_and_content() {
    let big: Vec<u8> = (0..700_000u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let zeros = vec![0; 300_000];
    let layer = Tar::new()
        .add(b'5', "d", 0o500, b"")
        .add(b'0', "d/small", 0o4755, b"hello")
        .add(b'0', "d/big", 0o600, &big)
        .add(b'0', "zeros", 0o600, &zeros)
        .link(b'2', "l", "d/small")
        .link(b'1', "h", "d/big")
        .add(b'6', "pipe", 0o622, b"");
    let (_directory, root) = unpack(vec![layer]);
    assert_eq!(paths(&root), ["d", "d/big", "d/small", "h", "l", "pipe", "zeros"]);
    let stat = |path: &str| root.join(path).symlink_metadata().unwrap();
    assert_eq!(stat("d").permissions().mode() & 0o7777, 0o500);
    assert_eq!(stat("d/small").permissions().mode() & 0o7777, 0o4755);
    assert_eq!(
        (stat("d").mtime(), stat("l").mtime(), stat("pipe").mtime()),
        (1_600_000_000, 1_600_000_000, 1_600_000_000)
    );
    assert_eq!((stat("h").ino(), stat("h").nlink()), (stat("d/big").ino(), 2));
    assert!(stat("pipe").file_type().is_fifo());
    assert_eq!(std::fs::read_link(root.join("l")).unwrap(), Path::new("d/small"));
    assert_eq!(std::fs::read(root.join("h")).unwrap(), big);
    assert_eq!(std::fs::read(root.join("zeros")).unwrap(), zeros);
}

#[test]
fn devices_are_made_by_root_only() {
    let (_directory, root) = unpack(vec![Tar::new().add(b'3', "null", 0o666, b"")]);
    match root.join("null").symlink_metadata() {
        Ok(metadata) => assert_eq!(metadata.rdev(), rustix::fs::makedev(1, 3)),
        Err(_) => assert!(!is_privileged()),
    }
}

#[test]
fn merges_layers_as_overlayfs_does() {
    let below = Tar::new()
        .add(b'0', "gone", 0o644, b"1")
        .add(b'0', "opaque/old", 0o644, b"1")
        .add(b'0', "remade/old", 0o644, b"1")
        .add(b'0', "merged/old", 0o644, b"1")
        .add(b'0', "removed/a/b", 0o644, b"1")
        .add(b'0', "dir-to-file/x", 0o644, b"1")
        .add(b'0', "file-to-dir", 0o644, b"1");
    let above = Tar::new()
        .add(b'0', ".wh.gone", 0o644, b"")
        .add(b'0', "opaque/.wh..wh..opq", 0o644, b"")
        .add(b'0', "opaque/new", 0o644, b"2")
        .add(b'0', ".wh.remade", 0o644, b"")
        .add(b'0', "remade/new", 0o644, b"2")
        .add(b'0', "merged/new", 0o644, b"2")
        .add(b'0', ".wh.removed", 0o644, b"")
        .add(b'0', "dir-to-file", 0o644, b"2")
        .add(b'0', "file-to-dir/x", 0o644, b"2");
    let (_directory, root) = unpack(vec![below, above]);
    let files: Vec<_> = paths(&root).into_iter().filter(|path| root.join(path).is_file()).collect();
    assert_eq!(
        files,
        ["dir-to-file", "file-to-dir/x", "merged/new", "merged/old", "opaque/new", "remade/new"]
    );
}

#[test]
fn nothing_is_written_through_a_link() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let below = Tar::new().link(b'2', "escape", target).link(b'2', "up", "../../../../../../../tmp");
    let above = Tar::new().add(b'0', "escape/file", 0o644, b"x").add(b'0', "up/file", 0o644, b"x");
    let (_directory, root) = unpack(vec![below, above]);
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(root.join("escape").symlink_metadata().unwrap().is_dir());
    assert_eq!(std::fs::read(root.join("up/file")).unwrap(), b"x");
}

#[test]
fn a_destination_that_is_not_empty_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let tar = directory.path().join("t.tar");
    std::fs::write(&tar, b"").unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    let image = store.import(&[tar], &[], &"x".parse().unwrap(), &mut |_| {}).unwrap();
    let error = image.unpack(directory.path()).unwrap_err().to_string();
    assert!(error.contains("directory not empty"), "{error}");
}
