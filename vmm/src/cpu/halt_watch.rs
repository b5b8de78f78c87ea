//! Notices a guest that has halted for good.
//!
//! A Linux guest without ACPI that powers off ends in `cli; hlt`, for ever, and KVM tells nobody: the vCPU just
//! sleeps. So a slow timer looks at the CPU time of the vCPU's thread. When it stands still, the vCPU is asked
//! to look at itself. A guest that merely idles answers no, and is asked less and less often, until it works again.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::Kick;
use crate::machine::Requests;

/// Time between two looks at the thread.
const PERIOD: Duration = Duration::from_millis(250);
/// Using less CPU time than this in a period is standing still; a kick itself costs a fraction of it.
const STILL: Duration = Duration::from_millis(1);
/// Most periods between two questions to an idle guest.
const MAX_WAIT: u32 = 16;

/// Decides when to ask.
#[derive(Debug, Default)]
struct Watch {
    last: Duration,
    /// Periods until the next question.
    wait: u32,
    /// How long to wait after the next question.
    patience: u32,
}

impl Watch {
    /// One period is over and the thread has used `cpu_time` so far; whether to ask now.
    fn tick(&mut self, cpu_time: Duration) -> bool {
        let used = cpu_time.saturating_sub(self.last);
        self.last = cpu_time;
        if used >= STILL {
            (self.wait, self.patience) = (0, 1);
            return false;
        }
        if self.wait > 0 {
            self.wait -= 1;
            return false;
        }
        self.wait = self.patience;
        self.patience = (self.patience * 2).clamp(1, MAX_WAIT);
        true
    }
}

/// The watch as the event loop drives it.
pub(crate) struct HaltWatch {
    timer: OwnedFd,
    watch: Watch,
    requests: Arc<Requests>,
    kicker: Arc<dyn Kick>,
}

impl HaltWatch {
    /// A running watch over the vCPU behind `kicker`.
    ///
    /// # Errors
    /// The host gives no timer.
    pub(crate) fn new(requests: Arc<Requests>, kicker: Arc<dyn Kick>) -> std::io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let nanoseconds = i64::from(PERIOD.subsec_nanos());
        let period = Timespec { tv_sec: 0, tv_nsec: nanoseconds };
        let setting = Itimerspec { it_interval: period, it_value: period };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &setting)?;
        Ok(Self { timer, watch: Watch::default(), requests, kicker })
    }
}

impl MutEventSubscriber for HaltWatch {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&self.timer, EventSet::IN)) {
            tracing::error!(%error, "a guest that powers off without reset will not be noticed");
        }
    }

    fn process(&mut self, _: Events, _: &mut EventOps) {
        let _ = rustix::io::read(&self.timer, &mut [0u8; 8]);
        let Some(cpu_time) = self.kicker.cpu_time() else { return };
        if self.watch.tick(cpu_time) {
            self.requests.look_if_halted();
            if let Err(error) = self.kicker.kick() {
                tracing::warn!(%error, "cannot kick the vCPU");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_guest_is_never_asked() {
        let mut watch = Watch::default();
        assert!((1..100).all(|i| !watch.tick(PERIOD * i)));
    }

    #[test]
    fn a_guest_that_falls_silent_is_asked_at_once_and_then_ever_less_often() {
        let mut watch = Watch::default();
        watch.tick(PERIOD);
        let asked: Vec<u32> = (0..40).filter(|_| watch.tick(PERIOD)).collect();
        assert_eq!(asked, [0, 2, 5, 10, 19, 36]);
    }

    #[test]
    fn work_makes_it_attentive_again() {
        let mut watch = Watch::default();
        for _ in 0..40 {
            watch.tick(PERIOD);
        }
        assert!(!watch.tick(PERIOD * 2));
        assert!(watch.tick(PERIOD * 2));
    }
}
