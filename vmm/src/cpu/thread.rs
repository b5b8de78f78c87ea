//! The thread that a vCPU runs on.
//!
//! ```text
//!   in the guest ──Action::Pause──► parked: obeys commands ──Resume──► in the guest
//!        │                              │
//!        ├──Left::Trapped────────────────┤ (the debugger is told)
//!        └───── end, death ─────────────┴── Resume after an end was asked for ──► over
//! ```

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::{self, JoinHandle};

use rustix::thread::{CpuSet, sched_setaffinity};

use super::confinement::Confinement;
use super::debug::{DebugCpu, Trap, Traps};
use super::exit::{self, Machine};
use super::{Action, CpuEngine, CpuError, Left, Saved};
use crate::events::{BootEvent, EventSink, Milestone};
use crate::machine::{VmExit, raise};
use crate::profile::Profile;
use crate::seccomp::ThreadKind;

/// Plenty for exit handling and device models; only what is touched becomes resident.
const STACK: usize = 256 << 10;

/// What a vCPU's thread ends with.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) end: Result<VmExit, CpuError>,
    pub(crate) profile: Option<Profile>,
}

/// What a debugger does with a vCPU, on its thread.
pub(crate) type Work = Box<dyn FnOnce(&mut dyn DebugCpu) + Send>;

/// What a parked vCPU is told.
pub(crate) enum Command {
    /// Go on.
    Resume,
    /// Say what state the vCPU is in.
    Save(Sender<Result<Saved, CpuError>>),
    /// Let the debugger see to something.
    Debug(Work),
}

/// What the thread of a vCPU needs besides the vCPU.
pub(crate) struct Place {
    /// The vCPU's number.
    pub(crate) index: u8,
    /// CPUs of the host that the thread may run on; none for any.
    pub(crate) affinity: Vec<u16>,
    /// What its exits can reach.
    pub(crate) machine: Arc<Machine>,
    /// Where the first entry and the end are recorded.
    pub(crate) events: Arc<dyn EventSink>,
    /// Told each time the vCPU is parked.
    pub(crate) parked: Sender<u8>,
    /// What to do then.
    pub(crate) commands: Receiver<Command>,
    /// Told when it stops for the debugger, if there can be one.
    pub(crate) traps: Option<Arc<Traps>>,
    /// Called when it is over, whatever the outcome: ends the other vCPUs.
    pub(crate) over: Arc<dyn Fn() + Send + Sync>,
    /// Signalled when it is over.
    pub(crate) ended: Arc<OwnedFd>,
}

/// Runs `cpu` on a thread named after its number.
///
/// # Errors
/// The host gives no thread.
pub(crate) fn spawn(
    mut cpu: Box<dyn CpuEngine>,
    place: Place,
    confined: bool,
) -> Result<JoinHandle<Outcome>, CpuError> {
    let name = format!("vcpu{}", place.index);
    let (confine, is_confined) = Confinement::new(ThreadKind::Vcpu, confined);
    let body = move || {
        let _end = OnDrop(&place);
        let bound = bind(&place);
        if !confine.begin() {
            return Outcome { end: Err(CpuError::Thread("it could not be confined".into())), profile: None };
        }
        let mark = |milestone| {
            if place.index == 0 {
                place.events.record(BootEvent::now(milestone));
            }
        };
        let begin = bound.and_then(|()| match place.machine.requests.take(place.index) {
            Action::Pause => park(&mut *cpu, &place),
            _ => Ok(()),
        });
        mark(Milestone::FirstRun);
        let end = begin.and_then(|()| run(&mut *cpu, &place));
        mark(Milestone::Exit);
        Outcome { end, profile: cpu.profile() }
    };
    let builder = thread::Builder::new().name(name).stack_size(STACK);
    let thread = builder.spawn(body).map_err(|error| CpuError::Thread(error.to_string()))?;
    is_confined.wait()?;
    Ok(thread)
}

/// Binds the calling thread to the CPUs it may run on.
fn bind(place: &Place) -> Result<(), CpuError> {
    if place.affinity.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for cpu in &place.affinity {
        set.set((*cpu).into());
    }
    sched_setaffinity(None, &set).map_err(|error| CpuError::Affinity {
        vcpu: place.index,
        cpus: place.affinity.clone(),
        source: error.into(),
    })
}

fn run(cpu: &mut dyn CpuEngine, place: &Place) -> Result<VmExit, CpuError> {
    let requests = &place.machine.requests;
    loop {
        match cpu.run(&mut |exit| exit::handle(exit, &place.machine, place.index)) {
            Ok(Left::Ended(exit)) => return Ok(exit),
            Ok(Left::Halted) if requests.halted(place.index) => return Ok(VmExit::PoweredOff),
            Ok(Left::Halted) => {}
            Ok(Left::Paused) => park(cpu, place)?,
            Ok(Left::Trapped(trap)) => stop_for_debugger(cpu, place, trap)?,
            Err(death @ CpuError::Died(_)) => {
                stop_for_debugger(cpu, place, Trap::Died)?;
                return Err(death);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Tells the debugger, if there can be one, and obeys until told to go on.
fn stop_for_debugger(cpu: &mut dyn CpuEngine, place: &Place, trap: Trap) -> Result<(), CpuError> {
    let Some(traps) = &place.traps else { return Ok(()) };
    traps.add(place.index, trap);
    park(cpu, place)
}

/// Obeys until told to go on.
fn park(cpu: &mut dyn CpuEngine, place: &Place) -> Result<(), CpuError> {
    let gone = || CpuError::Thread("nobody is left to resume it".into());
    place.parked.send(place.index).map_err(|_| gone())?;
    loop {
        match place.commands.recv().map_err(|_| gone())? {
            Command::Resume => return Ok(()),
            Command::Save(answer) => {
                // Whoever asked may have lost patience.
                let _ = answer.send(cpu.save());
            }
            Command::Debug(work) => work(cpu),
        }
    }
}

/// Says that it is over even when the thread unwinds, so that nobody waits for ever.
struct OnDrop<'a>(&'a Place);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        (self.0.over)();
        raise(&self.0.ended);
    }
}
