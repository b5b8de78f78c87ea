//! `close_range(2)`.

use std::io;

/// Closes every descriptor from 3 up: what a careless ancestor has left open for whoever it executes.
///
/// # Errors
///
/// What the system call says.
pub(crate) fn close_inherited() -> io::Result<()> {
    // SAFETY: takes plain numbers. Called first thing in a process, when nothing of it has opened anything yet.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
