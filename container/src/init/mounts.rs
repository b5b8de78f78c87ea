//! The root filesystem and everything mounted in it.
//!
//! Each mount is made detached (fsopen/fsmount or open_tree), gets its flags, and is then attached to a descriptor
//! of its place: no path is looked at twice.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::LinuxNamespaceType;
use rustix::fs::{CWD, FileType, fstat, fstatfs};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount,
    open_tree,
};

use super::cgroup_mount;
use super::target::{self, Kind};
use crate::cgroup::Cgroup;
use crate::plan::{MountKind, MountPlan, Plan};
use crate::step::{At, StepError};
use crate::sys::{MountAttr, mount_setattr};

const STEP: &str = "mounts";

/// The files of /proc that may be mounted over: views of the host's resources that lxcfs and the like replace.
const COVERABLE_IN_PROC: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
];

/// Attaches the root filesystem and makes all mounts in it; returns the root's descriptor.
pub(super) fn make(plan: &Plan, cgroup: &Cgroup) -> Result<OwnedFd, StepError> {
    // Nothing that is mounted from here on shows on the host.
    if !plan.namespaces.joins(LinuxNamespaceType::Mount) {
        mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).at(STEP, "/")?;
    }
    let rootfs = plan.rootfs.as_path();
    let root = clone_tree(rootfs, true).at("rootfs", rootfs.display())?;
    if plan.rootfs_propagation == libc::MS_PRIVATE {
        let private = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
        mount_setattr(root.as_fd(), private, true).at("rootfs", rootfs.display())?;
    }
    let onto_path = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&root, "", CWD, rootfs, onto_path).at("rootfs", rootfs.display())?;
    for mount in &plan.mounts {
        make_one(root.as_fd(), mount, cgroup)?;
    }
    Ok(root)
}

/// What must wait until everything inside is in place: a root that is read-only.
pub(super) fn finish(root: BorrowedFd<'_>, plan: &Plan) -> Result<(), StepError> {
    if plan.rootfs_readonly {
        let read_only = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        mount_setattr(root, read_only, false).at("read-only root", plan.rootfs.display())?;
    }
    Ok(())
}

fn make_one(root: BorrowedFd<'_>, mount: &MountPlan, cgroup: &Cgroup) -> Result<(), StepError> {
    let destination = mount.destination.as_path();
    match &mount.kind {
        MountKind::Bind { source, recursive } => {
            let tree = clone_tree(source, *recursive).at(STEP, source.display())?;
            let is_dir = FileType::from_raw_mode(fstat(&tree).at(STEP, source.display())?.st_mode).is_dir();
            let place = place(root, mount, if is_dir { Kind::Directory } else { Kind::File })?;
            set_attributes(tree.as_fd(), mount, true)?;
            attach(tree.as_fd(), place.as_fd()).at(STEP, destination.display())
        }
        MountKind::Filesystem { fs_type, source, data } => {
            let place = place(root, mount, Kind::Directory)?;
            let tree = new_filesystem(fs_type, source, data, mount.attr, destination)?;
            set_attributes(tree.as_fd(), mount, false)?;
            attach(tree.as_fd(), place.as_fd()).at(STEP, destination.display())
        }
        MountKind::Cgroup => {
            let place = place(root, mount, Kind::Directory)?;
            cgroup_mount::make(place, mount, cgroup)
        }
    }
}

/// A descriptor of where the mount goes.
fn place(root: BorrowedFd<'_>, mount: &MountPlan, kind: Kind) -> Result<OwnedFd, StepError> {
    let path = mount.destination.as_path();
    let mut place = target::open_or_make(root, path, kind).at(STEP, path.display())?;
    if mount.is_kernel_tree() {
        // Elsewhere than where masked and read-only paths look for it, it would be neither.
        place = match target::open_without_links(root, path) {
            Err(Errno::LOOP) => {
                let reason = "must be a plain directory in the image, and no part of it a symbolic link";
                return Err(StepError::new(STEP, path.display(), reason));
            }
            result => result.at(STEP, path.display())?,
        };
    }
    let covers_proc = fstatfs(&place).at(STEP, path.display())?.f_type == rustix::fs::PROC_SUPER_MAGIC;
    if covers_proc && !COVERABLE_IN_PROC.iter().any(|allowed| path == Path::new(allowed)) {
        return Err(StepError::new(STEP, path.display(), "nothing may be mounted over this part of /proc"));
    }
    Ok(place)
}

/// A detached copy of the mount that `path` is on, from `path` down.
pub(super) fn clone_tree(path: &Path, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, path, flags)
}

/// Puts a detached mount onto its place.
pub(super) fn attach(tree: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<(), Errno> {
    let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", place, "", both)
}

/// A detached mount of a new filesystem, with the flags of `attr` that are set.
pub(super) fn new_filesystem(
    fs_type: &str,
    source: &str,
    data: &[(String, Option<String>)],
    attr: MountAttr,
    destination: &Path,
) -> Result<OwnedFd, StepError> {
    let about = || format!("{} ({fs_type})", destination.display());
    let context = fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC).at(STEP, about())?;
    let configured = || -> Result<OwnedFd, Errno> {
        if !source.is_empty() {
            fsconfig_set_string(&context, "source", source)?;
        }
        for (key, value) in data {
            match value {
                Some(value) => fsconfig_set_string(&context, key, value)?,
                None => fsconfig_set_flag(&context, key)?,
            }
        }
        fsconfig_create(&context)?;
        // All flags of fsmount fit the type; `set` holds no others.
        let flags = MountAttrFlags::from_bits_retain(u32::try_from(attr.set).unwrap_or(0));
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
    };
    configured().map_err(|errno| explain(context.as_fd(), errno)).at(STEP, about())
}

/// The kernel may have said in words what it did not like.
fn explain(context: BorrowedFd<'_>, errno: Errno) -> io::Error {
    let mut message = [0; 256];
    let read = context.try_clone_to_owned().and_then(|fd| File::from(fd).read(&mut message));
    match read {
        Ok(length) if length > 2 => {
            let text = String::from_utf8_lossy(&message[2..length]);
            io::Error::other(format!("{} ({})", text.trim(), io::Error::from(errno)))
        }
        _ => errno.into(),
    }
}

/// Flags and propagation. `own` is left out for a mount that was made with them.
fn set_attributes(tree: BorrowedFd<'_>, mount: &MountPlan, own: bool) -> Result<(), StepError> {
    let own_attr = if own { mount.attr } else { MountAttr { set: 0, clear: 0, ..mount.attr } };
    for (attr, recursive) in [(own_attr, false), (mount.attr_recursive, true)] {
        if !attr.is_empty() {
            mount_setattr(tree, attr, recursive).at(STEP, mount.destination.display())?;
        }
    }
    Ok(())
}
