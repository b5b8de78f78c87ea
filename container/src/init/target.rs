//! Finds or makes a path inside the root filesystem without ever leaving it.
//!
//! The root filesystem is hostile: its symbolic links may point anywhere. The kernel resolves them as if the root
//! were `/` (openat2 with RESOLVE_IN_ROOT), and everything is then done through the descriptor it returned, so that
//! nothing can be exchanged between looking and acting.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, mkdirat, mknodat, openat2, readlinkat};
use rustix::io::Errno;

/// How many dangling links are followed before a path counts as a loop.
const MAX_LINKS: usize = 40;

/// What to make where nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// Opens (O_PATH) what `path` names inside `root`.
pub(super) fn open(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    resolve(root, path, ResolveFlags::empty())
}

/// As [`open`], and no part of the path may be a symbolic link (ELOOP).
pub(super) fn open_without_links(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    resolve(root, path, ResolveFlags::NO_SYMLINKS)
}

/// As [`open`], making what is missing: directories on the way, and the last part according to `kind`.
///
/// Where a symbolic link dangles, its target is made, inside the root like everything else.
pub(super) fn open_or_make(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> Result<OwnedFd, Errno> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match open(root, &path) {
            Err(Errno::NOENT) => {}
            result => return result,
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::NOENT);
        };
        let dir = open_or_make(root, parent, Kind::Directory)?;
        match make(dir.as_fd(), name, kind) {
            Ok(()) => {}
            // Something is there and yet cannot be opened: a link to nothing.
            Err(Errno::EXIST) => path = linked(dir.as_fd(), parent, name)?,
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::LOOP)
}

/// The directory that holds `path`, made where missing, and the last part of the path.
pub(super) fn open_or_make_parent<'a>(
    root: BorrowedFd<'_>,
    path: &'a Path,
) -> Result<(OwnedFd, &'a OsStr), Errno> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL) };
    Ok((open_or_make(root, parent, Kind::Directory)?, name))
}

fn resolve(root: BorrowedFd<'_>, path: &Path, more: ResolveFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    loop {
        match openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // The kernel could not rule out a race with a rename on the host; ask again.
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
}

fn make(dir: BorrowedFd<'_>, name: &OsStr, kind: Kind) -> Result<(), Errno> {
    match kind {
        Kind::Directory => mkdirat(dir, name, Mode::from_raw_mode(0o755)),
        Kind::File => mknodat(dir, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0),
    }
}

fn linked(dir: BorrowedFd<'_>, parent: &Path, name: &OsStr) -> Result<PathBuf, Errno> {
    let link = readlinkat(dir, name, Vec::new())?;
    // An absolute link replaces the path; `..` in a relative one is the kernel's to resolve.
    Ok(parent.join(OsStr::from_bytes(link.as_bytes())))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("root");
        fs::create_dir(&inner).unwrap();
        let fd = rustix::fs::open(&inner, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (outer, fd)
    }

    #[test]
    fn missing_parts_are_made() {
        let (outer, root) = root();
        open_or_make(root.as_fd(), Path::new("/a/b/c"), Kind::File).unwrap();
        assert!(outer.path().join("root/a/b/c").is_file());
        open_or_make(root.as_fd(), Path::new("/a/d"), Kind::Directory).unwrap();
        assert!(outer.path().join("root/a/d").is_dir());
    }

    #[test]
    fn links_stay_inside_wherever_they_point() {
        for link in ["/etc", "../../../../etc", "/../..", "etc", "/etc/deeper/still", "/etc/../.."] {
            let (outer, root) = root();
            symlink(link, outer.path().join("root/link")).unwrap();
            let made = open_or_make(root.as_fd(), Path::new("/link/made"), Kind::File);
            // A link to nothing by way of `..` is not worth making; it must only not be followed out.
            assert!(made.is_ok() || link == "/etc/../..", "{link}: {made:?}");
            let outside = fs::read_dir(outer.path()).unwrap().count();
            assert_eq!(outside, 1, "{link}");
            assert!(!Path::new("/etc/made").exists() && !Path::new("/made").exists(), "{link}");
        }
    }

    #[test]
    fn loops_and_files_in_the_way_are_errors() {
        let (outer, root) = root();
        symlink("b", outer.path().join("root/a")).unwrap();
        symlink("a", outer.path().join("root/b")).unwrap();
        fs::write(outer.path().join("root/file"), "").unwrap();
        let make = |path: &str| open_or_make(root.as_fd(), Path::new(path), Kind::Directory).unwrap_err();
        assert_eq!(make("/a/x"), Errno::LOOP);
        assert_eq!(make("/file/x"), Errno::NOTDIR);
    }

    #[test]
    fn a_link_is_seen_when_none_is_allowed() {
        let (outer, root) = root();
        fs::create_dir(outer.path().join("root/real")).unwrap();
        symlink("real", outer.path().join("root/proc")).unwrap();
        assert_eq!(open_without_links(root.as_fd(), Path::new("/proc")).unwrap_err(), Errno::LOOP);
        assert!(open_without_links(root.as_fd(), Path::new("/real")).is_ok());
    }
}
