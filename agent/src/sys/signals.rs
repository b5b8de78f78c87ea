//! Signals as a readable descriptor (signalfd(2)).
#![expect(unsafe_code, reason = "signal sets and signalfd, which rustix lacks")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Blocks SIGCHLD and SIGPIPE and makes SIGCHLD readable from the descriptor returned.
///
/// A blocked SIGPIPE makes a write to a pipe without a reader fail with `EPIPE` and do nothing else. The app gets a
/// clean mask in [`super::spawn`].
///
/// # Errors
/// What the kernel answers.
pub(crate) fn child_exits() -> io::Result<OwnedFd> {
    // SAFETY: sigset_t is a plain bit array, for which zero is a valid value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a valid set and the signal number a constant.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGCHLD) };
    let readable = set;
    // SAFETY: as above.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGPIPE) };
    // SAFETY: `set` outlives the call; the old mask is not asked for.
    let blocked = unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if blocked != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `readable` outlives the call, -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const readable, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Signals that this number may be sent as, 1 to 64 (signal(7)).
pub(crate) fn is_signal(number: i32) -> bool {
    (1..=64).contains(&number)
}

/// Sends signal `number` to process `pid`, or to every process but the agent when `pid` is -1.
///
/// # Errors
/// `EINVAL` for what is no signal, `ESRCH` when there is no such process.
pub(crate) fn kill(pid: i32, number: i32) -> io::Result<()> {
    if !is_signal(number) || (pid != -1 && pid <= 0) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: kill takes two numbers and touches no memory.
    let result = unsafe { libc::kill(pid, number) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
