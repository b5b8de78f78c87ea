//! The vCPUs of a running machine: their threads, and how they are paused, saved and ended together.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Requests, VmExit};
use crate::cpu::exit::Machine;
use crate::cpu::thread::{self, Command, Outcome, Place};
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
    commands: Vec<Sender<Command>>,
    parked: Receiver<u8>,
    requests: Arc<Requests>,
    kickers: Arc<Kickers>,
    is_paused: AtomicBool,
}

impl Vcpus {
    /// Starts `cpus`, each on its own thread, which is bound to its part of `affinity` if it has one; `ended` is signalled when the guest has ended. With `paused` they begin
    /// parked, before the first instruction.
    pub(super) fn spawn(
        cpus: Vec<Box<dyn CpuEngine>>,
        affinity: &[Vec<u16>],
        machine: &Arc<Machine>,
        events: &Arc<dyn EventSink>,
        ended: &Arc<OwnedFd>,
        paused: bool,
        confined: bool,
    ) -> Result<Self, CpuError> {
        let kickers = Kickers::of(&cpus);
        let (park, parked) = mpsc::channel();
        let mut vcpus = Self {
            threads: Vec::new(),
            commands: Vec::new(),
            parked,
            requests: machine.requests.clone(),
            kickers: kickers.clone(),
            is_paused: AtomicBool::new(false),
        };
        machine.requests.pause(paused);
        let requests = machine.requests.clone();
        let over: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
            requests.end(VmExit::Stopped);
            kick(&*kickers);
        });
        let affinity = affinity.iter().cloned().chain(std::iter::repeat(Vec::new()));
        for ((cpu, affinity), index) in cpus.into_iter().zip(affinity).zip(0..) {
            let (command, commands) = mpsc::channel();
            let place = Place {
                index,
                affinity,
                machine: machine.clone(),
                events: events.clone(),
                parked: park.clone(),
                commands,
                over: over.clone(),
                ended: ended.clone(),
            };
            vcpus.commands.push(command);
            vcpus.threads.push(thread::spawn(cpu, place, confined)?);
        }
        drop(park);
        if paused {
            vcpus.wait_until_parked()?;
        }
        Ok(vcpus)
    }

    /// Whether the vCPUs are parked.
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::SeqCst)
    }

    /// Parks the vCPUs at an instruction boundary.
    ///
    /// # Errors
    /// The guest has ended meanwhile.
    pub(super) fn pause(&self) -> Result<(), CpuError> {
        if self.is_paused() {
            return Ok(());
        }
        self.requests.pause(true);
        kick(&*self.kickers);
        self.wait_until_parked()
    }

    fn wait_until_parked(&self) -> Result<(), CpuError> {
        for _ in 0..self.commands.len() {
            self.parked.recv().map_err(|_| ended())?;
        }
        self.is_paused.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Lets parked vCPUs go on.
    pub(super) fn resume(&self) {
        if self.is_paused.swap(false, Ordering::SeqCst) {
            self.requests.pause(false);
            for command in &self.commands {
                // One that has ended does not go on.
                let _ = command.send(Command::Resume);
            }
        }
    }

    /// The state of each vCPU; they are parked.
    ///
    /// # Errors
    /// They are not, or their engine cannot say.
    pub(super) fn save(&self) -> Result<Vec<Saved>, CpuError> {
        if !self.is_paused() {
            return Err(CpuError::Thread("the guest is not paused".into()));
        }
        let save = |command: &Sender<Command>| {
            let (answer, answers) = mpsc::channel();
            command.send(Command::Save(answer)).map_err(|_| ended())?;
            answers.recv().map_err(|_| ended())?
        };
        self.commands.iter().map(save).collect()
    }

    /// Asks the guest to end as `exit` says, paused or not.
    pub(super) fn end(&self, exit: VmExit) {
        self.requests.end(exit);
        self.resume();
        kick(&*self.kickers);
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

fn ended() -> CpuError {
    CpuError::Thread("the guest has ended meanwhile".into())
}

fn kick(kickers: &dyn Kick) {
    if let Err(error) = kickers.kick() {
        tracing::error!(%error, "cannot kick the vCPUs");
    }
}
