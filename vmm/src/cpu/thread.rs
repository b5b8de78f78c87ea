//! The thread that a vCPU runs on.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::exit::{self, Machine};
use super::{CpuEngine, CpuError};
use crate::events::{BootEvent, EventSink, Milestone};
use crate::machine::{VmExit, raise};
use crate::profile::Profile;

/// Plenty for exit handling and device models; only what is touched becomes resident.
const STACK: usize = 256 << 10;

/// What a vCPU's thread ends with.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) end: Result<VmExit, CpuError>,
    pub(crate) profile: Option<Profile>,
}

/// Runs `cpu` on a thread named `vcpu0`; signals `ended` when it is over, whatever the outcome.
///
/// # Errors
/// The host gives no thread.
pub(crate) fn spawn(
    mut cpu: Box<dyn CpuEngine>,
    machine: Machine,
    events: Arc<dyn EventSink>,
    ended: Arc<OwnedFd>,
) -> Result<JoinHandle<Outcome>, CpuError> {
    let body = move || {
        let _signal = SignalOnDrop(ended);
        events.record(BootEvent::now(Milestone::FirstRun));
        let end = cpu.run(&mut |exit| exit::handle(exit, &machine));
        events.record(BootEvent::now(Milestone::Exit));
        Outcome { end, profile: cpu.profile() }
    };
    let builder = thread::Builder::new().name("vcpu0".into()).stack_size(STACK);
    builder.spawn(body).map_err(|error| CpuError::Thread(error.to_string()))
}

/// Signals even when the thread unwinds, so that nobody waits for ever.
struct SignalOnDrop(Arc<OwnedFd>);

impl Drop for SignalOnDrop {
    fn drop(&mut self) {
        raise(&self.0);
    }
}
