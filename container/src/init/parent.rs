//! Leaves what was the parent's behind.

use std::os::fd::BorrowedFd;

use rustix::fs::Mode;
use rustix::process::{setsid, umask};

use crate::step::{At, StepError};
use crate::sys;

/// Takes its own streams, closes all other descriptors but `kept` and the first `inherited` ones from 3 up, has a session
/// of its own, and signals as they should be.
pub(super) fn leave(
    streams: [BorrowedFd<'_>; 3],
    kept: &[BorrowedFd<'_>],
    inherited: u32,
) -> Result<(), StepError> {
    sys::replace_stdio(streams).at("standard streams", "dup")?;
    // Closed now and not at exec, so that no path through /proc/self/fd leads out of the container meanwhile.
    sys::close_all_except(kept, inherited).at("descriptors", "close")?;
    sys::reset_signals();
    setsid().at("session", "setsid")?;
    umask(Mode::empty());
    Ok(())
}
