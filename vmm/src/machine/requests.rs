//! What devices and other threads ask of the vCPU; it looks after every exit, and a kick makes it exit.

use std::sync::atomic::{AtomicU8, Ordering};

use serde::{Deserialize, Serialize};

use crate::cpu::Action;

/// How a guest ended that did not die.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmExit {
    /// It asked for a reset.
    Reset,
    /// It halted for good.
    PoweredOff,
    /// It was stopped from outside.
    Stopped,
}

const NOTHING: u8 = 0;
const LOOK_IF_HALTED: u8 = 1;
const RESET: u8 = 2;
const POWERED_OFF: u8 = 3;
const STOPPED: u8 = 4;

/// The pending request, if any; an end outranks a look, and the first end stays.
#[derive(Debug, Default)]
pub(crate) struct Requests(AtomicU8);

impl Requests {
    /// Asks the vCPU to end the guest.
    pub(crate) fn end(&self, exit: VmExit) {
        let end = match exit {
            VmExit::Reset => RESET,
            VmExit::PoweredOff => POWERED_OFF,
            VmExit::Stopped => STOPPED,
        };
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| (now < RESET).then_some(end));
    }

    /// Asks the vCPU to look whether it has halted for good.
    pub(crate) fn look_if_halted(&self) {
        let _ = self.0.compare_exchange(NOTHING, LOOK_IF_HALTED, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// What the vCPU is to do. A look is asked for once, an end stays asked for.
    pub(crate) fn take(&self) -> Action {
        match self.0.load(Ordering::SeqCst) {
            NOTHING => Action::Resume,
            RESET => Action::Stop(VmExit::Reset),
            POWERED_OFF => Action::Stop(VmExit::PoweredOff),
            STOPPED => Action::Stop(VmExit::Stopped),
            _ => {
                let _ = self.0.compare_exchange(LOOK_IF_HALTED, NOTHING, Ordering::SeqCst, Ordering::SeqCst);
                Action::StopIfHalted
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_end_stays() {
        let requests = Requests::default();
        requests.look_if_halted();
        requests.end(VmExit::Reset);
        requests.end(VmExit::Stopped);
        requests.look_if_halted();
        assert_eq!(requests.take(), Action::Stop(VmExit::Reset));
        assert_eq!(requests.take(), Action::Stop(VmExit::Reset));
    }
}
