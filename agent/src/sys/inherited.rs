//! Adopts a descriptor that the parent left open.
#![expect(unsafe_code, reason = "a descriptor's number says nothing of its owner")]

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_setfd};

/// Takes over descriptor `number`, which nothing else in this process may use.
///
/// # Errors
/// `EBADF` when it is not open.
pub(crate) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: borrowed only for the next call, which answers EBADF when the descriptor is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and the agent calls this once, before it has descriptors of its own.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
