//! `close_range(2)`: no descriptor of the caller reaches the container.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::check;

/// The first descriptor that is no standard stream.
const FIRST: u32 = 3;

/// Closes every descriptor from 3 up, apart from those in `keep` and the first `inherited` ones.
///
/// For a fresh clone that owns copies of all its parent's descriptors and will never run their destructors.
pub(crate) fn close_all_except(keep: &[BorrowedFd<'_>], inherited: u32) -> Result<(), Errno> {
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    keep.sort_unstable();
    let mut first = FIRST.saturating_add(inherited);
    for kept in keep {
        if kept > first {
            close_range(first, kept - 1, 0)?;
        }
        first = first.max(kept.saturating_add(1));
    }
    close_range(first, u32::MAX, 0)
}

/// Marks every descriptor from 3 up close-on-exec, apart from the first `inherited` ones.
pub(crate) fn mark_all_cloexec(inherited: u32) -> Result<(), Errno> {
    close_range(FIRST.saturating_add(inherited), u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(first: u32, last: u32, flags: u32) -> Result<(), Errno> {
    // SAFETY: takes plain numbers. The callers above only close descriptors that no live `OwnedFd` of this process
    // will be used or dropped for.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(|_| ())
}
