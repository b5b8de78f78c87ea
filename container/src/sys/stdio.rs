//! `dup3(2)` onto the standard streams, and leaving without running anybody's exit handlers.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::check;

/// Makes these the standard input, output and error of this process.
pub(crate) fn replace_stdio(streams: [BorrowedFd<'_>; 3]) -> Result<(), Errno> {
    // Copies above the standard streams first, for one of them may be given in another's place.
    let [stdin, stdout, stderr] = streams.map(|stream| fcntl_dupfd_cloexec(stream, 3));
    for (copy, target) in [(stdin?, 0), (stdout?, 1), (stderr?, 2)] {
        replace(&copy, target)?;
    }
    Ok(())
}

fn replace(copy: &OwnedFd, target: RawFd) -> Result<(), Errno> {
    // SAFETY: takes plain numbers. The target is a standard stream, which is meant to be replaced; the copy has
    // close-on-exec, the target has not.
    check(unsafe { libc::dup2(copy.as_raw_fd(), target) }.into()).map(|_| ())
}

/// Ends this process at once: no destructors, no exit handlers, no buffers, all of which belong to the process it
/// was cloned from.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process; nothing can be used afterwards.
    unsafe { libc::_exit(code) }
}
