//! `clone3(2)`: one call makes the process, its pidfd, all its namespaces, and puts it into a cgroup.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::Pid;

use super::check;

/// Which side of the clone the caller is on.
pub(crate) enum Cloned {
    /// The new process.
    Child,
    /// The old one, with the new one's id in its own pid namespace and a pidfd (close-on-exec).
    Parent { pid: Pid, pidfd: OwnedFd },
}

/// What to clone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CloneRequest<'a> {
    /// The namespaces that the child is in: `CLONE_NEW…` bits.
    pub(crate) namespaces: u64,
    /// A cgroup v2 directory, if the child starts in that group.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// The new process is a child of the caller's parent.
    pub(crate) sibling: bool,
}

/// Clones the calling process.
///
/// The child is a copy of the caller as with fork. The caller must be single-threaded, or the copy may hold locks
/// nobody will ever release; `create` checks this.
///
/// # Errors
/// Those of clone3(2): EPERM without the right to make namespaces, ENOSPC or EUSERS when a namespace limit is
/// reached, EAGAIN, ENOMEM.
pub(crate) fn clone3(request: CloneRequest<'_>) -> Result<Cloned, Errno> {
    let CloneRequest { namespaces, cgroup, sibling } = request;
    let mut pidfd: libc::c_int = -1;
    let mut flags = namespaces | libc::CLONE_PIDFD as u64;
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    if sibling {
        flags |= libc::CLONE_PARENT as u64;
    }
    let args = libc::clone_args {
        flags,
        pidfd: (&raw mut pidfd).addr() as u64,
        child_tid: 0,
        parent_tid: 0,
        // A sibling has the caller's own.
        exit_signal: if sibling { 0 } else { libc::SIGCHLD as u64 },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: `args` is a valid clone_args of the size given and `pidfd` outlives the call. Without CLONE_VM and
    // with no stack given, this is fork: the child continues here on its own copy of the memory.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    let pid = check(result)?;
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(Cloned::Child);
    };
    // SAFETY: the kernel has just stored a new descriptor there that nobody else owns (CLONE_PIDFD).
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid, pidfd })
}

/// linux/sched.h; libc has it as a `c_int`, where the bit does not fit.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
