//! The kernel's own file systems, mounted while the engine makes up its answer, and moved into the app's root later.

use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind};

/// Where `/dev` comes from.
pub(crate) enum Dev {
    /// The kernel's devtmpfs.
    Kernel,
    /// A directory that stands for it in tests.
    Directory(PathBuf),
}

/// A mount or a mount point that could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    /// mount(2) refused.
    #[error("cannot mount {source_name} on {target}: {error}")]
    Mount {
        /// The device or the file system type.
        source_name: String,
        /// The mount point.
        target: String,
        /// The kernel's answer.
        error: Errno,
    },
    /// mkdir(2) refused.
    #[error("cannot make directory {path}: {error}")]
    Directory {
        /// The directory.
        path: String,
        /// The kernel's answer.
        error: Errno,
    },
}

/// A row of the table of early mounts.
struct Early {
    fstype: &'static str,
    target: &'static str,
    flags: MountFlags,
    data: &'static std::ffi::CStr,
    /// Whether the app can do without.
    optional: bool,
}

const fn early_mount(fstype: &'static str, target: &'static str, data: &'static std::ffi::CStr) -> Early {
    let flags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
    Early { fstype, target, flags, data, optional: false }
}

/// As in the OCI runtime spec's default file systems (config-linux.md), in the order of their nesting.
const EARLY: [Early; 5] = [
    early_mount("proc", "/proc", c""),
    early_mount("sysfs", "/sys", c""),
    Early { optional: true, ..early_mount("cgroup2", "/sys/fs/cgroup", c"") },
    Early {
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        ..early_mount("devpts", "/dev/pts", c"mode=0620,ptmxmode=0666,gid=5")
    },
    early_mount("tmpfs", "/dev/shm", c"mode=1777"),
];

/// Links that programs expect and devtmpfs does not make (config-linux.md, "Default Devices", "Dev symbolic links").
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Mounts `/dev`, `/proc`, `/sys` and what belongs below them.
///
/// # Errors
/// [`MountError`] for anything but the cgroup hierarchy, which a kernel may lack.
pub(crate) fn early(dev: &Dev) -> Result<(), MountError> {
    make_directory("/dev")?;
    match dev {
        Dev::Kernel => attach("devtmpfs", "/dev", "devtmpfs", MountFlags::NOSUID, c"mode=0755")?,
        Dev::Directory(path) => {
            mount_bind(path, "/dev").map_err(|e| refused(&path.to_string_lossy(), "/dev", e))?
        }
    }
    for Early { fstype, target, flags, data, optional } in EARLY {
        if optional {
            // The directory belongs to sysfs and is there when the kernel can fill it.
            let _ = attach(fstype, target, fstype, flags, data);
        } else {
            make_directory(target)?;
            attach(fstype, target, fstype, flags, data)?;
        }
    }
    for (to, link) in LINKS {
        match rustix::fs::symlink(to, link) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(MountError::Directory { path: link.to_owned(), error }),
        }
    }
    Ok(())
}

/// mount(2) with an error that names both ends.
pub(crate) fn attach(
    source: &str,
    target: &str,
    fstype: &str,
    flags: MountFlags,
    data: &std::ffi::CStr,
) -> Result<(), MountError> {
    mount(source, target, fstype, flags, data).map_err(|error| refused(source, target, error))
}

/// Makes a directory (mode 0755) unless it is there.
pub(crate) fn make_directory(path: impl AsRef<Path>) -> Result<(), MountError> {
    let path = path.as_ref();
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(MountError::Directory { path: path.to_string_lossy().into_owned(), error }),
    }
}

fn refused(source: &str, target: &str, error: Errno) -> MountError {
    MountError::Mount { source_name: source.to_owned(), target: target.to_owned(), error }
}
