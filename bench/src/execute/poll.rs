//! Waiting for descriptors until an instant of the harness's clock.

use std::io;

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;

use super::ExecuteError;
use crate::clock::now_ns;

/// Waits until a descriptor is ready or the clock passes `until_ns`. Returns whether one is ready; `fds` then say which.
pub(super) fn wait(fds: &mut [PollFd<'_>], until_ns: u64) -> Result<bool, ExecuteError> {
    loop {
        let left_ns = until_ns.saturating_sub(now_ns());
        let timeout = Timespec {
            tv_sec: i64::try_from(left_ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(left_ns % 1_000_000_000).expect("less than a second"),
        };
        match poll(fds, Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(system("wait for a descriptor")(error.into())),
        }
    }
}

/// Turns an error of the operating system into one that says what was being done.
pub(super) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> ExecuteError {
    move |source| ExecuteError::System { doing, source }
}
