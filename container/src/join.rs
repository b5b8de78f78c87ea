//! Namespaces that exist already: opened and checked by the creator, entered by init or by a go-between.
//!
//! ```text
//! creator ── clone3 ──▶ init                        it joins by itself, if it can
//! creator ── clone3 ──▶ go-between ── clone3 ──▶ init
//!                       joins, tells init's id, ends  (init is a child of the creator: CLONE_PARENT)
//! ```
//!
//! The go-between is there for what must be joined before the new namespaces are made: a pid namespace, which holds
//! for children only; a user namespace, which then owns the new ones; and, with a new user namespace, any other, for
//! which init would have no right any more. The creator's own namespaces never change.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use oci_spec::runtime::LinuxNamespaceType as Kind;
use rustix::fs::{FsWord, Mode, OFlags, fstatfs, open as open_file};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::channel::{self, Report};
use crate::child::Child;
use crate::create::CreateError;
use crate::plan::{NamespaceToJoin, Namespaces, invalid};
use crate::step::{At, StepError};
use crate::sys::{self, CloneRequest, Cloned};

const STEP: &str = "namespaces";

/// linux/magic.h.
const NSFS_MAGIC: FsWord = 0x6e73_6673;

/// A namespace to join, opened.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) kind: Kind,
    path: PathBuf,
    pub(crate) file: OwnedFd,
}

/// Opens the namespaces to join, and makes sure that they are what the configuration says.
pub(crate) fn open(namespaces: &Namespaces) -> Result<Vec<Joined>, CreateError> {
    namespaces.join.iter().map(open_one).collect()
}

fn open_one(namespace: &NamespaceToJoin) -> Result<Joined, CreateError> {
    let NamespaceToJoin { kind, path, field } = namespace;
    // What is no namespace is not opened: it could be a fifo that waits, or a device that does something.
    let place = open_file(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at(STEP, path.display())?;
    let is_namespace = fstatfs(&place).at(STEP, path.display())?.f_type == NSFS_MAGIC;
    let reason = if is_namespace {
        let opened = format!("/proc/self/fd/{}", place.as_raw_fd());
        let opened = open_file(opened, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let file = opened.at(STEP, path.display())?;
        if sys::namespace_type(file.as_fd()).at(STEP, path.display())? == *kind as u64 {
            return Ok(Joined { kind: *kind, path: path.clone(), file });
        }
        "is a namespace of another kind than its type says"
    } else {
        "is no namespace; use a file like /proc/PID/ns/net, or one bound from there"
    };
    Err(invalid(field, path.display(), reason).into())
}

/// Whether these must be joined before the new namespaces are made.
pub(crate) fn needs_go_between(namespaces: &Namespaces) -> bool {
    let first = namespaces.joins(Kind::Pid) || namespaces.joins(Kind::User);
    first || (namespaces.new_user() && !namespaces.join.is_empty())
}

/// Enters the namespaces: those that its present rights suffice for, then the user namespace, then the others.
pub(crate) fn enter(joined: &[Joined]) -> Result<(), StepError> {
    let (user, mut others): (Vec<_>, Vec<_>) = joined.iter().partition(|joined| joined.kind == Kind::User);
    // Afterwards, paths lead elsewhere.
    others.sort_by_key(|joined| joined.kind == Kind::Mount);
    let mut later = Vec::new();
    for namespace in others {
        match enter_one(namespace) {
            Err(Errno::PERM) if !user.is_empty() => later.push(namespace),
            result => result.at(STEP, namespace.path.display())?,
        }
    }
    user.into_iter().chain(later).try_for_each(|joined| enter_one(joined).at(STEP, joined.path.display()))
}

fn enter_one(joined: &Joined) -> Result<(), Errno> {
    let kind = match joined.kind {
        Kind::Mount => LinkNameSpaceType::Mount,
        Kind::Cgroup => LinkNameSpaceType::ControlGroup,
        Kind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        Kind::Ipc => LinkNameSpaceType::InterProcessCommunication,
        Kind::User => LinkNameSpaceType::User,
        Kind::Pid => LinkNameSpaceType::ProcessID,
        Kind::Network => LinkNameSpaceType::Network,
        Kind::Time => LinkNameSpaceType::Time,
    };
    move_into_link_name_space(joined.file.as_fd(), Some(kind))
}

/// Clones a process that is in all of `joined`, as a child of the calling one.
pub(crate) fn clone_inside(joined: &[Joined], request: CloneRequest<'_>) -> Result<Cloned, CreateError> {
    let (here, there) = channel::pair().map_err(|errno| CreateError::Clone(errno.into()))?;
    let go_between =
        sys::clone3(CloneRequest::default()).map_err(|errno| CreateError::Clone(errno.into()))?;
    let Cloned::Parent { pid, pidfd } = go_between else {
        let cloned = enter(joined)
            .and_then(|()| sys::clone3(CloneRequest { sibling: true, ..request }).at("clone", "init"));
        match cloned {
            Ok(Cloned::Child) => return Ok(Cloned::Child),
            Ok(Cloned::Parent { pid, .. }) => there.report(&Report::Cloned(pid.as_raw_nonzero().get())),
            Err(error) => there.report(&Report::Failed(error)),
        }
        sys::exit_now(0)
    };
    drop(there);
    let told = here.report();
    let _ended = Child::new(pid, pidfd).wait();
    match told {
        Ok(Some(Report::Cloned(pid))) => {
            // Its id stays its own, for only this process can reap it.
            let pid = Pid::from_raw(pid).ok_or(CreateError::InitDied)?;
            let pidfd =
                pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| CreateError::Clone(errno.into()))?;
            Ok(Cloned::Parent { pid, pidfd })
        }
        Ok(Some(Report::Failed(error))) => Err(error.into()),
        _ => Err(CreateError::InitDied),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_as(kind: &str, path: &str) -> Result<Vec<Joined>, CreateError> {
        let json = serde_json::json!({"namespaces": [{"type": "mount"}, {"type": kind, "path": path}]});
        open(&Namespaces::new(&serde_json::from_value(json).unwrap()).unwrap())
    }

    #[test]
    fn a_namespace_must_be_of_the_kind_that_is_said() {
        assert_eq!(open_as("network", "/proc/self/ns/net").unwrap()[0].kind, Kind::Network);
        assert_eq!(open_as("time", "/proc/self/ns/time_for_children").unwrap()[0].kind, Kind::Time);
        for (kind, path, reason) in [
            ("network", "/proc/self/ns/uts", "another kind"),
            ("pid", "/proc/self/ns/user", "another kind"),
            ("user", "/etc/hostname", "is no namespace"),
            ("ipc", "/dev/null", "is no namespace"),
            ("uts", "/no/such/file", "No such file"),
        ] {
            let error = open_as(kind, path).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(path), "{kind} {path}: {error}");
        }
    }
}
