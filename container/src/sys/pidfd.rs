//! `pidfd_send_signal(2)` for any signal, real-time ones included.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use rustix::io::Errno;

use super::check;

/// Sends signal number `signal` to the process.
///
/// # Errors
/// ESRCH when it is gone, EINVAL when there is no such signal.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let no_info = ptr::null::<libc::siginfo_t>();
    // SAFETY: without siginfo the call takes plain numbers, and checks them.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    check(result).map(|_| ())
}
