//! The app's root file system: EROFS layers and the writable disk stacked by overlayfs, and the switch to it.
//!
//! An initramfs cannot be pivoted away from, so the new root is moved over `/` and entered with chroot(2), as
//! switch_root(8) does. From then on every path the agent uses resolves inside the app's root.

use std::ffi::CString;
use std::fmt::Write;
use std::os::fd::OwnedFd;

use agent::protocol::RootDisks;
use rustix::fs::{CWD, Mode, OFlags, open, openat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, mount_move, move_mount};

use crate::mounts::{MountError, attach, make_directory};

const LAYERS: &str = "/layers";
const DISK: &str = "/disk";
const NEW_ROOT: &str = "/newroot";
/// What mount(2) takes of options, its final NUL included: one page.
const OPTIONS_MAX: usize = 4096;

/// Why the app's root could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    /// A disk or the overlay could not be mounted.
    #[error("cannot make the root file system: {0}")]
    Mount(#[from] MountError),
    /// The image has nothing in it.
    #[error("the image has no layers")]
    NoLayers,
    /// More layers than one overlay mount takes.
    #[error("{0} layers are more than the guest can stack; build the image with fewer")]
    TooManyLayers(usize),
    /// The image has something else where the kernel's file systems go.
    #[error("cannot mount {path} in the app's root; it must be a directory in the image: {error}")]
    MountPoint {
        /// The mount point.
        path: &'static str,
        /// The kernel's answer.
        error: Errno,
    },
    /// The last step.
    #[error("cannot switch to the app's root: {0}")]
    Switch(Errno),
}

/// Mounts the disks and the overlay of them on [`NEW_ROOT`], and leaves the writable disk's mount in `disk`.
///
/// # Errors
/// [`RootError`]; `disk` is set as soon as that disk is mounted, so that it can be made clean.
pub(crate) fn stack(disks: &RootDisks, disk: &mut Option<OwnedFd>) -> Result<(), RootError> {
    let options = overlay_options(disks.layers.len())?;
    make_directory(LAYERS)?;
    for (number, &index) in disks.layers.iter().enumerate() {
        let target = format!("{LAYERS}/{number}");
        make_directory(&target)?;
        attach(&device(index), &target, "erofs", MountFlags::RDONLY, c"")?;
    }
    make_directory(DISK)?;
    // The disk is fresh from mke2fs and small: no thread that zeroes its inode tables in the app's time.
    attach(&device(disks.writable), DISK, "ext4", MountFlags::empty(), c"noinit_itable")?;
    *disk = Some(open(DISK, directory_flags(), Mode::empty()).map_err(RootError::Switch)?);
    for path in ["/disk/upper", "/disk/work", NEW_ROOT] {
        make_directory(path)?;
    }
    attach("overlay", NEW_ROOT, "overlay", MountFlags::empty(), &options)?;
    Ok(())
}

/// Takes `/dev`, `/proc` and `/sys` along and makes the new root the root.
///
/// # Errors
/// [`RootError::MountPoint`] where the image has no directory for them, [`RootError::Switch`] for the rest.
pub(crate) fn switch() -> Result<(), RootError> {
    let root = open(NEW_ROOT, directory_flags(), Mode::empty()).map_err(RootError::Switch)?;
    for path in ["/dev", "/proc", "/sys"] {
        move_into(&root, path).map_err(|error| RootError::MountPoint { path, error })?;
    }
    rustix::process::fchdir(&root)
        .and_then(|()| mount_move(".", "/"))
        .and_then(|()| rustix::process::chroot("."))
        .map_err(RootError::Switch)
}

/// Moves the mount at `path` to the same path below `root`, never by way of a symbolic link of the image.
fn move_into(root: &OwnedFd, path: &str) -> Result<(), Errno> {
    let name = path.trim_start_matches('/');
    let open_it = || openat(root, name, directory_flags() | OFlags::NOFOLLOW, Mode::empty());
    let target = match open_it() {
        Err(Errno::NOENT) => {
            rustix::fs::mkdirat(root, name, Mode::from_raw_mode(0o755))?;
            open_it()?
        }
        other => other?,
    };
    move_mount(CWD, path, target, "", MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH)
}

fn directory_flags() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC
}

/// The options of the overlay mount: the last layer on top (overlayfs.rst, "Multiple lower layers"), and renames of
/// directories that come from the image allowed, as on any file system.
fn overlay_options(layers: usize) -> Result<CString, RootError> {
    if layers == 0 {
        return Err(RootError::NoLayers);
    }
    let mut options = String::from("lowerdir=");
    for number in (0..layers).rev() {
        let separator = if number == 0 { "," } else { ":" };
        write!(options, "{LAYERS}/{number}{separator}").expect("a String takes all that is written");
        if options.len() >= OPTIONS_MAX {
            return Err(RootError::TooManyLayers(layers));
        }
    }
    options.push_str("upperdir=/disk/upper,workdir=/disk/work,redirect_dir=on");
    let fits = options.len() < OPTIONS_MAX;
    CString::new(options).ok().filter(|_| fits).ok_or(RootError::TooManyLayers(layers))
}

/// The name of virtio-blk device `index`: vda … vdz, vdaa … (`virtblk_name_format`, drivers/block/virtio_blk.c).
fn device(index: u32) -> String {
    let mut letters = Vec::new();
    let mut rest = Some(index);
    while let Some(value) = rest {
        letters.push(b'a' + u8::try_from(value % 26).expect("below 26"));
        rest = (value / 26).checked_sub(1);
    }
    let letters: String = letters.iter().rev().map(|&letter| char::from(letter)).collect();
    format!("/dev/vd{letters}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_named_as_the_kernel_names_them() {
        let cases = [
            (0, "a"),
            (1, "b"),
            (25, "z"),
            (26, "aa"),
            (27, "ab"),
            (51, "az"),
            (52, "ba"),
            (701, "zz"),
            (702, "aaa"),
        ];
        for (index, letters) in cases {
            assert_eq!(device(index), format!("/dev/vd{letters}"));
        }
        assert!(device(u32::MAX).starts_with("/dev/vd"));
    }

    #[test]
    fn the_last_layer_is_on_top() {
        let options = overlay_options(3).expect("made").into_string().expect("text");
        assert_eq!(
            options,
            "lowerdir=/layers/2:/layers/1:/layers/0,upperdir=/disk/upper,workdir=/disk/work,redirect_dir=on"
        );
    }

    #[test]
    fn no_layers_and_too_many_are_refused() {
        assert!(matches!(overlay_options(0), Err(RootError::NoLayers)));
        assert!(overlay_options(300).is_ok());
        assert!(matches!(overlay_options(1000), Err(RootError::TooManyLayers(1000))));
        assert!(matches!(overlay_options(usize::MAX), Err(RootError::TooManyLayers(usize::MAX))));
    }
}
