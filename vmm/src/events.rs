//! Boot events: what happened when between the start of the process and the end of the guest.
//!
//! Times are those of the host's monotonic clock, so that whoever started the process can put its own in the
//! same row.

use std::sync::{Mutex, PoisonError};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A point on the way from process start to the guest's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Milestone {
    /// The process that becomes the VMM began. Recorded by that process, not by this crate.
    ProcessStart,
    /// The configuration is known and makes sense.
    ConfigParsed,
    /// `/dev/kvm` is open and the VM exists.
    KvmOpened,
    /// Guest memory is mapped.
    MemoryMapped,
    /// The kernel is in guest memory.
    KernelLoaded,
    /// Devices are on their buses.
    DevicesPlaced,
    /// The vCPU is ready for its first instruction.
    VcpusReady,
    /// The vCPU is about to enter the guest for the first time.
    FirstRun,
    /// The guest wrote this byte to the boot-timer port.
    GuestMark(u8),
    /// The guest ended.
    Exit,
}

/// A milestone and when it was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootEvent {
    /// What happened.
    pub milestone: Milestone,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub at_ns: u64,
}

impl BootEvent {
    /// `milestone`, happening now.
    pub fn now(milestone: Milestone) -> Self {
        Self { milestone, at_ns: now_ns() }
    }
}

/// The host's monotonic clock in nanoseconds.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or_default()
}

/// Where boot events go. Called from the thread that builds the VM and from the vCPU's thread; must not block.
pub trait EventSink: Send + Sync {
    /// Takes one event.
    fn record(&self, event: BootEvent);
}

impl<F: Fn(BootEvent) + Send + Sync> EventSink for F {
    fn record(&self, event: BootEvent) {
        self(event);
    }
}

/// Keeps every event, in order.
impl EventSink for Mutex<Vec<BootEvent>> {
    fn record(&self, event: BootEvent) {
        self.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_kept_in_the_order_of_the_clock() {
        let sink = Mutex::new(Vec::new());
        sink.record(BootEvent::now(Milestone::ConfigParsed));
        sink.record(BootEvent::now(Milestone::GuestMark(123)));
        let events = sink.into_inner().unwrap();
        assert!(events[0].at_ns <= events[1].at_ns && events[0].at_ns > 0);
        let json = serde_json::to_string(&events[1].milestone).unwrap();
        assert_eq!(json, r#"{"guest_mark":123}"#);
    }
}
