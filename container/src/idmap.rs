//! Bind mounts whose ids are mapped, made by the creator: init, in a user namespace of its own, would have no right to.
//!
//! The kernel takes the maps from a user namespace. Where a mount has maps of its own, one is made for them, by a process
//! that does nothing but be in it until it is open.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use oci_spec::runtime::LinuxNamespaceType;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::child::Child;
use crate::create::CreateError;
use crate::join::Joined;
use crate::plan::{IdMaps, MountIds, MountKind, Plan};
use crate::step::{At, StepError};
use crate::sys::{self, CloneRequest, Cloned};

const STEP: &str = "mounts";

/// A mount that is not attached anywhere yet.
#[derive(Debug)]
pub(crate) struct ReadyTree {
    /// Which of the plan's mounts it is.
    pub(crate) index: usize,
    pub(crate) tree: OwnedFd,
}

/// Makes all of the plan's mounts that map ids.
pub(crate) fn prepare(plan: &Plan, joined: &[Joined]) -> Result<Vec<ReadyTree>, CreateError> {
    let mut users = Users { made: Vec::new(), joined };
    let mut mapped = Vec::new();
    for (index, mount) in plan.mounts.iter().enumerate() {
        if let (Some(ids), MountKind::Bind { source, recursive }) = (&mount.ids, &mount.kind) {
            let maps = ids.maps.as_ref().or(plan.namespaces.id_maps.as_ref());
            let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            flags.set(OpenTreeFlags::AT_RECURSIVE, *recursive);
            let tree = open_tree(CWD, source, flags).at(STEP, source.display())?;
            let user = users.with(maps).map_err(|error| explain(&error, ids))?;
            let result = sys::map_ids(tree.as_fd(), user, ids.recursive);
            result.map_err(|errno| refused(errno, ids, source.display().to_string()))?;
            mapped.push(ReadyTree { index, tree });
        }
    }
    Ok(mapped)
}

/// Why ids cannot be mapped, in words.
fn refused(errno: Errno, ids: &MountIds, source: String) -> StepError {
    let why = match errno {
        Errno::INVAL => "its filesystem cannot map ids",
        Errno::PERM => "only who could mount its filesystem may map its ids, and only once",
        _ => "its ids cannot be mapped",
    };
    let reason = format!("{source}: {why} ({})", std::io::Error::from(errno));
    StepError { errno: Some(errno.raw_os_error()), ..StepError::new(STEP, &ids.field, reason) }
}

fn explain(error: &StepError, ids: &MountIds) -> StepError {
    StepError {
        errno: error.errno,
        ..StepError::new(STEP, &ids.field, format!("{}: {}", error.subject, error.reason))
    }
}

/// The user namespaces whose maps are used.
struct Users<'a> {
    made: Vec<(IdMaps, OwnedFd)>,
    joined: &'a [Joined],
}

impl Users<'_> {
    /// One with these maps; without any, the one that the container joins.
    fn with(&mut self, maps: Option<&IdMaps>) -> Result<BorrowedFd<'_>, StepError> {
        let Some(maps) = maps else {
            let joined = self.joined.iter().find(|joined| joined.kind == LinuxNamespaceType::User);
            let none = || StepError::new(STEP, "user namespace", "there is none");
            return joined.map(|joined| joined.file.as_fd()).ok_or_else(none);
        };
        let known = self.made.iter().position(|(known, _)| known == maps);
        let index = known.unwrap_or(self.made.len());
        if known.is_none() {
            self.made.push((maps.clone(), user_namespace(maps)?));
        }
        Ok(self.made[index].1.as_fd())
    }
}

/// A new user namespace with these maps and nobody in it.
fn user_namespace(maps: &IdMaps) -> Result<OwnedFd, StepError> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).at(STEP, "pipe")?;
    let request = CloneRequest { namespaces: libc::CLONE_NEWUSER as u64, ..CloneRequest::default() };
    let Cloned::Parent { pid, pidfd } = sys::clone3(request).at(STEP, "a user namespace for the maps")?
    else {
        drop(writer);
        // Until its maker is done, or gone.
        let _end = rustix::io::read(&reader, &mut [0]);
        sys::exit_now(0)
    };
    let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let write = |name: &str, map: &str| {
        fs::write(proc.join(name), map).at(STEP, format_args!("{name} = {}", map.trim()))
    };
    let opened = write("uid_map", &maps.uid)
        .and_then(|()| write("gid_map", &maps.gid))
        .and_then(|()| File::open(proc.join("ns/user")).at(STEP, "a user namespace for the maps"));
    drop(writer);
    let _ended = Child::new(pid, pidfd).wait();
    opened.map(OwnedFd::from)
}
