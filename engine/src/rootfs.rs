//! A container's root file system: the image's EROFS layers below, the thin read-write layer on top.
//!
//! Everything is mounted in a mount namespace of the monitor's own, so that it goes when monitor and container do,
//! however they end.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{
    io::Errno,
    mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount},
    thread::UnshareFlags,
};

use crate::{
    error::{EngineError, Result},
    files,
};

/// Leaves the host's mount namespace; what the host mounts later still arrives, what is mounted here stays here.
pub(crate) fn enter_own_mount_namespace() -> Result<()> {
    #[expect(deprecated, reason = "unsafe only with CLONE_FILES, which is not used")]
    let left = rustix::thread::unshare(UnshareFlags::NEWNS);
    left.and_then(|()| mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC))
        .map_err(|e| EngineError::file("leave the host's mounts (root is needed) at", "/")(e.into()))
}

/// Mounts the root file system of an instance at `<dir>/bundle/rootfs`, base layer first in `layers`.
///
/// An `ephemeral` one is removed with its instance, so nothing of it need reach the disk: without that, unmounting waits
/// for the host's file system to be synchronised.
pub(crate) fn mount_rootfs(dir: &Path, layers: &[PathBuf], ephemeral: bool) -> Result<PathBuf> {
    let rootfs = dir.join("bundle/rootfs");
    for path in [&rootfs, &dir.join("upper"), &dir.join("work")] {
        files::make_dir(path)?;
    }
    // The root directory of the container is the upper directory's: it must be open to the app's user.
    let everyone = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.join("upper"), everyone)
        .map_err(EngineError::file("open up", dir.join("upper")))?;
    // Paths relative to the instance keep the options short: they must fit in a page.
    std::env::set_current_dir(dir).map_err(EngineError::file("enter", dir))?;
    let mut lower = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let target = format!("layers/{index}");
        files::make_dir(&dir.join(&target))?;
        mount_layer(layer, Path::new(&target))?;
        lower.insert(0, target);
    }
    let volatile = if ephemeral { ",volatile" } else { "" };
    let options = format!("lowerdir={},upperdir=upper,workdir=work{volatile}", lower.join(":"));
    let options = std::ffi::CString::new(options).expect("the options hold no NUL");
    mount("overlay", "bundle/rootfs", "overlay", MountFlags::empty(), Some(options.as_c_str()))
        .map_err(|e| match e {
            Errno::INVAL => EngineError::Invalid(format!(
                "cannot mount the layers at {}: the data root may be on a file system that overlayfs cannot write to, \
                 such as overlayfs itself; choose another by --root",
                rootfs.display()
            )),
            e => EngineError::file("mount the layers at", &rootfs)(e.into()),
        })?;
    std::env::set_current_dir("/").map_err(EngineError::file("enter", "/"))?;
    Ok(rootfs)
}

/// Takes the mounts away again, so that the instance's directory can be removed while the monitor still runs.
pub(crate) fn unmount_rootfs(dir: &Path, layers: usize) -> Result<()> {
    let layers = (0..layers).map(|index| dir.join(format!("layers/{index}")));
    for target in std::iter::once(dir.join("bundle/rootfs")).chain(layers) {
        match unmount(&target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // Not there, or not mounted any more.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(e) => return Err(EngineError::file("unmount", target)(e.into())),
        }
    }
    Ok(())
}

/// Mounts one EROFS image: straight from its file on Linux 6.12 and later, else through a loop device, which goes
/// with the mount.
fn mount_layer(layer: &Path, target: &Path) -> Result<()> {
    let failed = |e: std::io::Error| EngineError::file("mount the layer", layer)(e);
    match mount(layer, target, "erofs", MountFlags::RDONLY | MountFlags::NODEV, None) {
        Ok(()) => Ok(()),
        Err(Errno::NOTBLK) => {
            let output = Command::new("mount")
                .args(["-t", "erofs", "-o", "ro,nodev,loop"])
                .args([layer, target])
                .output()
                .map_err(failed)?;
            if output.status.success() {
                return Ok(());
            }
            Err(failed(std::io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())))
        }
        Err(Errno::NODEV) => Err(failed(std::io::Error::other("this kernel has no EROFS (CONFIG_EROFS_FS)"))),
        Err(e) => Err(failed(e.into())),
    }
}
