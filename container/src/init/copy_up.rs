//! Copies what an image has in a directory into the tmpfs that is about to cover it (`tmpcopyup`).
//!
//! Everything goes through descriptors of directories, and no symbolic link is followed: the image is hostile.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, chownat, fchmod, fstat,
    futimens, mkdirat, mknodat, openat, readlinkat, statat, symlinkat,
};
use rustix::io::Errno;

use crate::step::{At, StepError};

/// Deepest directory that is copied; descriptors are held for each level.
const MAX_DEPTH: usize = 100;

/// Copies the contents of `from`, and the owner, mode and times of the directory itself, to `to`.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, about: &str) -> Result<(), StepError> {
    let original = open_directory(from, ".").and_then(|dir| Ok((fstat(&dir)?, dir)));
    let (stat, dir) = original.at("tmpcopyup", about)?;
    let target = open_directory(to, ".").at("tmpcopyup", about)?;
    copy_directory(dir, &stat, &target, 0).at("tmpcopyup", about)
}

fn open_directory(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    openat(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn copy_directory(from: OwnedFd, stat: &Stat, to: &OwnedFd, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(Errno::NAMETOOLONG.into());
    }
    for entry in Dir::read_from(&from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(from.as_fd(), name, to, depth)?;
        }
    }
    chownat(to, "", Some(owner(stat)), Some(group(stat)), AtFlags::EMPTY_PATH)?;
    finish(to.as_fd(), stat)
}

fn copy_entry(from: BorrowedFd<'_>, name: &std::ffi::CStr, to: &OwnedFd, depth: usize) -> io::Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let plain = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let hidden = Mode::RUSR | Mode::WUSR | Mode::XUSR;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | plain;
            let inner = openat(from, name, flags, Mode::empty())?;
            mkdirat(to, name, hidden)?;
            let copy = openat(to, name, flags, Mode::empty())?;
            return copy_directory(inner, &stat, &copy, depth + 1);
        }
        FileType::RegularFile => {
            let mut inner = File::from(openat(from, name, OFlags::RDONLY | plain, Mode::empty())?);
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | plain;
            let mut copy = File::from(openat(to, name, flags, hidden)?);
            io::copy(&mut inner, &mut copy)?;
            chownat(&copy, "", Some(owner(&stat)), Some(group(&stat)), AtFlags::EMPTY_PATH)?;
            return finish(copy.as_fd(), &stat);
        }
        FileType::Symlink => symlinkat(readlinkat(from, name, Vec::new())?, to, name)?,
        // Nobody listens on the copy of a socket.
        FileType::Socket => return Ok(()),
        kind => mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode), stat.st_rdev)?,
    }
    chownat(to, name, Some(owner(&stat)), Some(group(&stat)), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// Mode and times; after the owner, whose change clears set-user-id bits.
fn finish(copy: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    fchmod(copy, Mode::from_raw_mode(stat.st_mode))?;
    let time =
        |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds.cast_signed() };
    let last_access = time(stat.st_atime, stat.st_atime_nsec);
    let last_modification = time(stat.st_mtime, stat.st_mtime_nsec);
    Ok(futimens(copy, &Timestamps { last_access, last_modification })?)
}

fn owner(stat: &Stat) -> Uid {
    Uid::from_raw(stat.st_uid)
}

fn group(stat: &Stat) -> Gid {
    Gid::from_raw(stat.st_gid)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn files_links_and_modes_arrive_and_links_are_not_followed() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(from.path().join("a/b")).unwrap();
        fs::write(from.path().join("a/b/file"), "text").unwrap();
        fs::set_permissions(from.path().join("a/b/file"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::set_permissions(from.path().join("a"), fs::Permissions::from_mode(0o1700)).unwrap();
        symlink("/etc/passwd", from.path().join("a/link")).unwrap();
        symlink("/etc", from.path().join("dir")).unwrap();
        let open = |path| File::open(path).unwrap();
        copy(open(from.path()).as_fd(), open(to.path()).as_fd(), "test").unwrap();
        let file = to.path().join("a/b/file");
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o4751);
        assert_eq!(fs::metadata(to.path().join("a")).unwrap().mode() & 0o7777, 0o1700);
        assert_eq!(
            fs::metadata(&file).unwrap().mtime(),
            fs::metadata(from.path().join("a/b/file")).unwrap().mtime()
        );
        for (name, target) in [("a/link", "/etc/passwd"), ("dir", "/etc")] {
            assert_eq!(fs::read_link(to.path().join(name)).unwrap().to_str(), Some(target));
        }
    }

    #[test]
    fn what_is_too_deep_is_an_error() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(from.path().join("d/".repeat(MAX_DEPTH + 2))).unwrap();
        let open = |path| File::open(path).unwrap();
        let error = copy(open(from.path()).as_fd(), open(to.path()).as_fd(), "/deep").unwrap_err();
        assert!(error.to_string().starts_with("tmpcopyup: /deep: "), "{error}");
    }
}
