//! Loads a filter in init itself: one that needs rights which are about to go, or one that asks.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::{Errno, fcntl_dupfd_cloexec};

use crate::channel::{InitEnd, Order, Report};
use crate::seccomp::Filter;
use crate::step::{At, StepError};
use crate::sys;

const STEP: &str = "seccomp";

/// Loads it. One that asks returns the descriptor by which it does, which the agent has got by then.
pub(super) fn load(filter: &Filter, channel: &InitEnd) -> Result<Option<OwnedFd>, StepError> {
    const SUBJECT: &str = "linux.seccomp";
    if filter.listener.is_none() {
        sys::load_filter(&filter.program, filter.flags).at(STEP, SUBJECT)?;
        return Ok(None);
    }
    // The kernel takes the lowest number that is free; this finds out which.
    let number = fcntl_dupfd_cloexec(channel, 0).at(STEP, "a free descriptor")?.as_raw_fd();
    channel.report(&Report::Listener(number));
    let listener = sys::load_asking_filter(&filter.program, filter.flags).at(STEP, SUBJECT)?;
    if listener.as_raw_fd() != number {
        return Err(Errno::BADF).at(STEP, "the listener's descriptor");
    }
    channel.wait_for(Order::Listening).at(STEP, "waiting for the agent to be told")?;
    Ok(Some(listener))
}
