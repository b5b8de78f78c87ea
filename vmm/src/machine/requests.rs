//! What devices and other threads ask of the vCPUs; each looks after every exit, and a kick makes it exit.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

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

const GOES_ON: u8 = 0;
const RESET: u8 = 1;
const POWERED_OFF: u8 = 2;
const STOPPED: u8 = 3;

/// The pending requests. An end outranks a pause, a pause outranks a look, and the first end stays.
#[derive(Debug)]
pub(crate) struct Requests {
    end: AtomicU8,
    pause: AtomicBool,
    /// The vCPUs that have not yet looked whether they are halted for good: one bit each.
    looks: AtomicU64,
    /// Those that have looked, and are.
    halted: AtomicU64,
    /// One bit for each vCPU there is.
    all: u64,
}

impl Default for Requests {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Requests {
    /// No requests yet, for 1 to 64 vCPUs.
    pub(crate) fn new(vcpus: u8) -> Self {
        Self {
            end: AtomicU8::new(GOES_ON),
            pause: AtomicBool::new(false),
            looks: AtomicU64::new(0),
            halted: AtomicU64::new(0),
            all: u64::MAX >> (64 - u32::from(vcpus.clamp(1, 64))),
        }
    }

    /// Asks the vCPUs to end the guest.
    pub(crate) fn end(&self, exit: VmExit) {
        let end = match exit {
            VmExit::Reset => RESET,
            VmExit::PoweredOff => POWERED_OFF,
            VmExit::Stopped => STOPPED,
        };
        let _ = self.end.compare_exchange(GOES_ON, end, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// How the guest is to end, once anybody has said so.
    pub(crate) fn ending(&self) -> Option<VmExit> {
        match self.end.load(Ordering::SeqCst) {
            RESET => Some(VmExit::Reset),
            POWERED_OFF => Some(VmExit::PoweredOff),
            STOPPED => Some(VmExit::Stopped),
            _ => None,
        }
    }

    /// Asks the vCPUs to stay out of the guest, or no longer.
    pub(crate) fn pause(&self, wanted: bool) {
        self.pause.store(wanted, Ordering::SeqCst);
    }

    /// Asks each vCPU to look whether it has halted for good.
    pub(crate) fn look_if_halted(&self) {
        self.halted.store(0, Ordering::SeqCst);
        self.looks.store(self.all, Ordering::SeqCst);
    }

    /// vCPU `vcpu` has halted for good; whether all have, so that the guest has powered off.
    pub(crate) fn halted(&self, vcpu: u8) -> bool {
        let halted = self.halted.fetch_or(bit(vcpu), Ordering::SeqCst) | bit(vcpu);
        if halted == self.all {
            self.end(VmExit::PoweredOff);
        }
        halted == self.all
    }

    /// What vCPU `vcpu` is to do. A look is asked for once, a pause until it is taken back, an end stays asked for.
    pub(crate) fn take(&self, vcpu: u8) -> Action {
        if let Some(exit) = self.ending() {
            Action::Stop(exit)
        } else if self.pause.load(Ordering::SeqCst) {
            Action::Pause
        } else if self.looks.load(Ordering::SeqCst) & bit(vcpu) != 0 {
            self.looks.fetch_and(!bit(vcpu), Ordering::SeqCst);
            Action::StopIfHalted
        } else {
            Action::Resume
        }
    }
}

fn bit(vcpu: u8) -> u64 {
    1 << (vcpu & 63)
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
        requests.pause(true);
        assert_eq!(requests.take(0), Action::Stop(VmExit::Reset));
        assert_eq!(requests.take(0), Action::Stop(VmExit::Reset));
    }

    #[test]
    fn a_pause_lasts_until_it_is_taken_back() {
        let requests = Requests::default();
        requests.pause(true);
        requests.look_if_halted();
        assert_eq!([requests.take(0), requests.take(0)], [Action::Pause; 2]);
        requests.pause(false);
        assert_eq!([requests.take(0), requests.take(0)], [Action::StopIfHalted, Action::Resume]);
    }

    #[test]
    fn the_guest_is_off_when_all_vcpus_have_halted_in_one_round() {
        let requests = Requests::new(2);
        requests.look_if_halted();
        assert!(!requests.halted(0));
        requests.look_if_halted();
        assert_eq!([requests.take(0), requests.take(1)], [Action::StopIfHalted; 2]);
        assert!(!requests.halted(1));
        assert!(requests.halted(0));
        assert_eq!(requests.take(1), Action::Stop(VmExit::PoweredOff));
    }

    #[test]
    fn the_last_vcpu_has_a_bit_too() {
        let requests = Requests::new(64);
        requests.look_if_halted();
        assert_eq!(requests.take(63), Action::StopIfHalted);
        assert!((0..63).all(|vcpu| !requests.halted(vcpu)) && requests.halted(63));
    }
}
