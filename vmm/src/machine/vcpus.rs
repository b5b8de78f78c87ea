//! The vCPUs of a running machine: their threads. `control` is what holds them.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::{VcpuControl, VmExit};
use crate::cpu::debug::Traps;
use crate::cpu::exit::Machine;
use crate::cpu::thread::{self, Outcome, Place};
use crate::cpu::{CpuEngine, CpuError, Kick, Saved};
use crate::events::EventSink;

/// All vCPUs as one: kicks each, adds their times.
pub(super) struct Kickers(Vec<Arc<dyn Kick>>);

impl Kickers {
    /// The kickers of `cpus`.
    pub(super) fn of(cpus: &[Box<dyn CpuEngine>]) -> Arc<Self> {
        Arc::new(Self(cpus.iter().map(|cpu| cpu.kicker()).collect()))
    }
}

impl Kick for Kickers {
    fn kick(&self) -> io::Result<()> {
        // The others are kicked also where one cannot be.
        let results: Vec<_> = self.0.iter().map(|kicker| kicker.kick()).collect();
        results.into_iter().collect()
    }

    fn cpu_time(&self) -> Option<Duration> {
        let times: Vec<_> = self.0.iter().filter_map(|kicker| kicker.cpu_time()).collect();
        (!times.is_empty()).then(|| times.iter().sum())
    }
}

/// The threads of a machine's vCPUs.
pub(super) struct Vcpus {
    /// Empty once their outcome has been handed out.
    threads: Vec<JoinHandle<Outcome>>,
    control: Arc<VcpuControl>,
}

/// How vCPUs begin.
pub(super) struct Beginning {
    /// Parked, before the first instruction.
    pub(super) paused: bool,
    /// Their threads confine themselves.
    pub(super) confined: bool,
    /// Kept for the debugger, before the first instruction: where it hears of them.
    pub(super) traps: Option<Arc<Traps>>,
}

impl Vcpus {
    /// Starts `cpus`, each on its own thread, which is bound to its part of `affinity` if it has one; `ended` is signalled
    /// when the guest has ended.
    pub(super) fn spawn(
        cpus: Vec<Box<dyn CpuEngine>>,
        affinity: &[Vec<u16>],
        machine: &Arc<Machine>,
        events: &Arc<dyn EventSink>,
        ended: &Arc<OwnedFd>,
        beginning: Beginning,
    ) -> Result<Self, CpuError> {
        let Beginning { paused, confined, traps } = beginning;
        let kickers = Kickers::of(&cpus);
        let (park, parked) = mpsc::channel();
        let (senders, receivers): (Vec<_>, Vec<_>) = cpus.iter().map(|_| mpsc::channel()).unzip();
        let requests = machine.requests.clone();
        let parks = paused || traps.is_some();
        requests.pause(parks);
        let control =
            VcpuControl::new(senders, parked, requests.clone(), kickers.clone(), paused, traps.is_some());
        let mut vcpus = Self { threads: Vec::new(), control: Arc::new(control) };
        let over: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
            requests.end(VmExit::Stopped);
            kick(&*kickers);
        });
        let affinity = affinity.iter().cloned().chain(std::iter::repeat(Vec::new()));
        for (((cpu, commands), affinity), index) in cpus.into_iter().zip(receivers).zip(affinity).zip(0..) {
            let place = Place {
                index,
                affinity,
                machine: machine.clone(),
                events: events.clone(),
                parked: park.clone(),
                commands,
                traps: traps.clone(),
                over: over.clone(),
                ended: ended.clone(),
            };
            vcpus.threads.push(thread::spawn(cpu, place, confined)?);
        }
        drop(park);
        if parks {
            vcpus.control.wait_until_parked()?;
        }
        Ok(vcpus)
    }

    /// What holds them.
    pub(super) fn control(&self) -> &Arc<VcpuControl> {
        &self.control
    }

    /// Whether the vCPUs are parked, by whoever has the machine.
    pub(super) fn is_paused(&self) -> bool {
        self.control.is_held()
    }

    /// Parks the vCPUs at an instruction boundary.
    ///
    /// # Errors
    /// The guest has ended meanwhile.
    pub(super) fn pause(&self) -> Result<(), CpuError> {
        self.control.hold()
    }

    /// Lets parked vCPUs go on, but for those that a debugger keeps.
    pub(super) fn resume(&self) {
        self.control.release();
    }

    /// The state of each vCPU; they are parked.
    ///
    /// # Errors
    /// They are not, or their engine cannot say.
    pub(super) fn save(&self) -> Result<Vec<Saved>, CpuError> {
        self.control.save()
    }

    /// Asks the guest to end as `exit` says, paused or not.
    pub(super) fn end(&self, exit: VmExit) {
        self.control.end(exit);
    }

    /// Whether the outcome has been handed out.
    pub(super) fn is_joined(&self) -> bool {
        self.threads.is_empty()
    }

    /// Waits until all vCPUs have ended: the outcome of the one that died, or else of the first.
    ///
    /// # Errors
    /// One has panicked, or the outcome was handed out before.
    pub(super) fn join(&mut self) -> Result<Outcome, CpuError> {
        let mut outcome: Option<Outcome> = None;
        for thread in std::mem::take(&mut self.threads) {
            let next = thread.join().map_err(|_| CpuError::Thread("it panicked".into()))?;
            if outcome.as_ref().is_none_or(|first| first.end.is_ok() && next.end.is_err()) {
                outcome = Some(next);
            }
        }
        outcome.ok_or_else(|| CpuError::Thread("its end has been reported already".into()))
    }
}

pub(super) fn kick(kickers: &dyn Kick) {
    if let Err(error) = kickers.kick() {
        tracing::error!(%error, "cannot kick the vCPUs");
    }
}
