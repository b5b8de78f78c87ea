//! The root filesystem and everything mounted in it.
//!
//! Each mount is made detached (fsopen/fsmount or open_tree), gets its flags, and is then attached to a descriptor
//! of its place: no path is looked at twice.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::LinuxNamespaceType;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, fstatfs, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, fspick, mount_change, move_mount, open_tree,
};

use super::target::{self, Kind};
use super::{cgroup_mount, copy_up, propagation};
use crate::cgroup::Cgroup;
use crate::idmap::ReadyTree;
use crate::plan::{FsParameter, MountKind, MountPlan, Plan};
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
pub(super) fn make(plan: &Plan, cgroup: &Cgroup, mapped: &[ReadyTree]) -> Result<OwnedFd, StepError> {
    let shared = shared_sources(plan)?;
    let ready = mapped.iter().chain(&shared);
    if !plan.namespaces.joins(LinuxNamespaceType::Mount) {
        // Nothing that is mounted from here on shows on the host.
        mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).at(STEP, "/")?;
    }
    let root = attach_root(plan)?;
    for (index, mount) in plan.mounts.iter().enumerate() {
        let ready = ready.clone().find(|ready| ready.index == index);
        make_one(root.as_fd(), mount, cgroup, ready.map(|ready| ready.tree.as_fd()))?;
    }
    Ok(root)
}

/// Copies of mounts in which later mounts are to show on the host too: taken while the host's are still their peers.
fn shared_sources(plan: &Plan) -> Result<Vec<ReadyTree>, StepError> {
    let mut copies = Vec::new();
    for (index, mount) in plan.mounts.iter().enumerate() {
        if let (true, None, MountKind::Bind { source, recursive }) =
            (mount.is_shared(), &mount.ids, &mount.kind)
        {
            copies
                .push(ReadyTree { index, tree: clone_tree(source, *recursive).at(STEP, source.display())? });
        }
    }
    Ok(copies)
}

/// A copy of the root filesystem's mount, on top of itself.
fn attach_root(plan: &Plan) -> Result<OwnedFd, StepError> {
    let about = || format!("root.path: {}", plan.rootfs.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = openat(CWD, &plan.rootfs, flags, Mode::empty()).at("rootfs", about())?;
    let copy = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let all = OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::AT_EMPTY_PATH;
    let root = open_tree(&place, "", copy | all).at("rootfs", about())?;
    propagation::set_first(root.as_fd(), plan.rootfs_propagation)?;
    attach(root.as_fd(), place.as_fd()).at("rootfs", about())?;
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

/// `ready`: a bind mount's tree, where it is there already.
fn make_one(
    root: BorrowedFd<'_>,
    mount: &MountPlan,
    cgroup: &Cgroup,
    ready: Option<BorrowedFd<'_>>,
) -> Result<(), StepError> {
    let destination = mount.destination.as_path();
    match &mount.kind {
        MountKind::Bind { source, recursive } => {
            let cloned;
            let tree = match ready {
                Some(ready) => ready,
                None => {
                    cloned = clone_tree(source, *recursive)
                        .map_err(|errno| not_bound(errno, source, *recursive))?;
                    cloned.as_fd()
                }
            };
            let is_dir = FileType::from_raw_mode(fstat(tree).at(STEP, source.display())?.st_mode).is_dir();
            let place = place(root, mount, if is_dir { Kind::Directory } else { Kind::File })?;
            set_attributes(tree, mount, true)?;
            attach(tree, place.as_fd()).at(STEP, destination.display())
        }
        MountKind::Filesystem { fs_type, source, data, copy_up } => {
            let place = place(root, mount, Kind::Directory)?;
            let data = with_mode_of(&place, fs_type, data).at(STEP, destination.display())?;
            // What is copied must be written first.
            let later = if *copy_up { libc::MOUNT_ATTR_RDONLY } else { 0 };
            let attr = MountAttr { set: mount.attr.set & !later, ..mount.attr };
            let tree = new_filesystem(fs_type, source, &data, attr, destination)?;
            if *copy_up {
                copy_up::copy(place.as_fd(), tree.as_fd(), &destination.to_string_lossy())?;
                let later = MountAttr { set: mount.attr.set & later, ..MountAttr::default() };
                mount_setattr(tree.as_fd(), later, false).at(STEP, destination.display())?;
            }
            set_attributes(tree.as_fd(), mount, false)?;
            attach(tree.as_fd(), place.as_fd()).at(STEP, destination.display())
        }
        MountKind::Cgroup { only_v2 } => {
            let place = place(root, mount, Kind::Directory)?;
            cgroup_mount::make(place, mount, cgroup, *only_v2)
        }
        MountKind::Remount { data } => remount(root, mount, data),
    }
}

/// Why a path cannot be bound.
fn not_bound(errno: Errno, source: &Path, recursive: bool) -> StepError {
    match Err::<(), _>(errno).at(STEP, source.display()) {
        Err(error) if errno == Errno::INVAL && !recursive => {
            let hint =
                "; if it has mounts below it, a user namespace may not leave them out: use the option rbind";
            StepError { reason: error.reason + hint, ..error }
        }
        Err(error) => error,
        Ok(()) => StepError::new(STEP, source.display(), errno),
    }
}

/// A tmpfs has the mode of the directory that it covers, unless another is asked for.
fn with_mode_of<'a>(
    place: &OwnedFd,
    fs_type: &str,
    data: &'a [FsParameter],
) -> Result<Cow<'a, [FsParameter]>, Errno> {
    if fs_type != "tmpfs" || data.iter().any(|(key, _)| key == "mode") {
        return Ok(data.into());
    }
    let mode = format!("{:o}", fstat(place)?.st_mode & 0o7777);
    Ok([data, &[("mode".to_owned(), Some(mode))]].concat().into())
}

/// Changes the flags of what is mounted there, and the parameters of its filesystem.
fn remount(root: BorrowedFd<'_>, mount: &MountPlan, data: &[FsParameter]) -> Result<(), StepError> {
    let about = || format!("{} (remount)", mount.destination.display());
    let place = target::open(root, &mount.destination).at(STEP, about())?;
    if !data.is_empty() {
        let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
        let context = fspick(&place, "", flags).at(STEP, about())?;
        let changed = configure(&context, data).and_then(|()| fsconfig_reconfigure(&context));
        changed.map_err(|errno| explain(context.as_fd(), errno)).at(STEP, about())?;
    }
    set_attributes(place.as_fd(), mount, true)
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

/// A place that something is to be put onto, if it exists.
pub(super) fn existing(path: &Path) -> Result<Option<OwnedFd>, Errno> {
    match openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        result => result.map(Some),
    }
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
    data: &[FsParameter],
    attr: MountAttr,
    destination: &Path,
) -> Result<OwnedFd, StepError> {
    let about = || format!("{} ({fs_type})", destination.display());
    let context = fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC).at(STEP, about())?;
    let configured = || -> Result<OwnedFd, Errno> {
        if !source.is_empty() {
            fsconfig_set_string(&context, "source", source)?;
        }
        configure(&context, data)?;
        fsconfig_create(&context)?;
        // All flags of fsmount fit the type; `set` holds no others.
        let flags = MountAttrFlags::from_bits_retain(u32::try_from(attr.set).unwrap_or(0));
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
    };
    configured().map_err(|errno| explain(context.as_fd(), errno)).at(STEP, about())
}

fn configure(context: &OwnedFd, data: &[FsParameter]) -> Result<(), Errno> {
    data.iter().try_for_each(|(key, value)| match value {
        Some(value) => fsconfig_set_string(context, key, value),
        None => fsconfig_set_flag(context, key),
    })
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
