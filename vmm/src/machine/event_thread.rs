//! The thread of the event loop, which drives all devices, and how it is held and ended. In between it sees to it that the
//! VMM comes to rest ([`super::settling`]).

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};

use super::running::{raise, signal};
use super::settling::Settling;
use crate::cpu::CpuError;
use crate::cpu::confinement::Confinement;
use crate::seccomp::ThreadKind;
use crate::virtio::EventLoop;

/// Enough for the devices' event handlers; only what is touched becomes resident.
const STACK: usize = 256 << 10;

/// What the thread does, or is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// It is to be held…
    Hold,
    /// …and is: no device does anything.
    Held,
    Quit,
}

#[derive(Debug)]
struct Gate {
    phase: Mutex<Phase>,
    changed: Condvar,
    /// Makes the thread look.
    event: Arc<OwnedFd>,
}

impl Gate {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, phase: Phase) {
        *self.phase() = phase;
        self.changed.notify_all();
    }

    fn wait_while(&self, phase: Phase) -> Phase {
        let still = |now: &mut Phase| *now == phase;
        *self.changed.wait_while(self.phase(), still).unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running thread. Dropping it ends it.
#[derive(Debug)]
pub(super) struct EventThread {
    gate: Arc<Gate>,
    thread: Option<JoinHandle<()>>,
}

impl EventThread {
    /// Runs `event_loop` on a thread named `vmm`, which attends to `settling` in between.
    ///
    /// # Errors
    /// The host gives no thread or descriptor.
    pub(super) fn spawn(
        mut event_loop: EventLoop,
        mut settling: Settling,
        confined: bool,
    ) -> Result<Self, CpuError> {
        let gate =
            Arc::new(Gate { phase: Mutex::new(Phase::Running), changed: Condvar::new(), event: signal()? });
        event_loop.add_subscriber(Box::new(AtGate(gate.clone())));
        let watched = gate.clone();
        let (confine, is_confined) = Confinement::new(ThreadKind::Devices, confined);
        let body = move || {
            if !confine.begin() {
                return;
            }
            while *watched.phase() != Phase::Quit {
                if let Err(error) = event_loop.run_with_timeout(settling.due_in_ms(Instant::now())) {
                    tracing::error!(%error, "the event loop stumbled");
                }
                settling.attend(Instant::now());
            }
        };
        let builder = thread::Builder::new().name("vmm".into()).stack_size(STACK);
        let thread = builder.spawn(body).map_err(|error| CpuError::Thread(error.to_string()))?;
        is_confined.wait()?;
        Ok(Self { gate, thread: Some(thread) })
    }

    /// Holds the thread between two events, and returns when no device does anything any more.
    pub(super) fn hold(&self) {
        self.gate.set(Phase::Hold);
        if raise(&self.gate.event) {
            self.gate.wait_while(Phase::Hold);
        }
    }

    /// Lets it go on.
    pub(super) fn release(&self) {
        self.gate.set(Phase::Running);
    }
}

impl Drop for EventThread {
    fn drop(&mut self) {
        self.gate.set(Phase::Quit);
        if let (Some(thread), true) = (self.thread.take(), raise(&self.gate.event)) {
            let _ = thread.join();
        }
    }
}

/// The event loop's end of the gate.
struct AtGate(Arc<Gate>);

impl MutEventSubscriber for AtGate {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&*self.0.event, EventSet::IN)) {
            tracing::error!(%error, "the event loop will not end");
        }
    }

    fn process(&mut self, _: Events, _: &mut EventOps) {
        let _ = rustix::io::read(&*self.0.event, &mut [0u8; 8]);
        if *self.0.phase() == Phase::Hold {
            self.0.set(Phase::Held);
            self.0.wait_while(Phase::Held);
        }
    }
}

#[cfg(test)]
mod tests {
    use event_manager::EventManager;

    use super::*;
    use crate::sys::code_pages::CodePages;

    #[test]
    fn it_is_held_released_and_ended() {
        let thread = EventThread::spawn(
            EventManager::new().unwrap(),
            Settling::begin(Instant::now(), CodePages::find().unwrap()),
            false,
        );
        let thread = thread.unwrap();
        for _ in 0..100 {
            thread.hold();
            assert_eq!(*thread.gate.phase(), Phase::Held);
            thread.release();
        }
        thread.hold();
        drop(thread);
    }
}
