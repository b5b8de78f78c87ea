//! Namespaces (namespaces(7)): leaving them, and starting a process in a new one.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::{Child, Command};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// The namespace in which the calling thread's next child will be.
const OF_CHILDREN: &str = "/proc/thread-self/ns/pid_for_children";

/// Puts the calling thread into namespaces of its own. `flags` are of the kind `NEW…`.
///
/// # Errors
///
/// What the system call says.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: no flag but FILES concerns what the process's threads share of its memory or descriptors.
    unsafe { unshare_unsafe(flags.difference(UnshareFlags::FILES)) }.map_err(Into::into)
}

/// Starts `command` as the first process of a new PID namespace, which ends with it. Only the calling thread is
/// concerned meanwhile, and its later children are where they always were.
///
/// # Errors
///
/// The caller may not make namespaces, or the command cannot be started.
pub(crate) fn spawn_in_pid_namespace(command: &mut Command) -> io::Result<Child> {
    let before = File::open(OF_CHILDREN)?;
    unshare(UnshareFlags::NEWPID)?;
    let child = command.spawn();
    move_into_link_name_space(before.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
    child
}
