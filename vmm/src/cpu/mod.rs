//! A virtual CPU, whatever runs it: the interface of a CPU engine, what its exits mean, and its thread.
//!
//! A [`CpuEngine`] runs guest code until something for the machine happens and hands that over as an [`Exit`].
//! [`exit::handle`] turns an exit into an [`Action`]; it needs no VM, only buses. `thread` runs an engine,
//! `halt_watch` notices a guest that has halted for good, `page_walk` reads guest virtual memory. `cpuid`, `msrs` and
//! `registers` are the state that every engine's vCPU starts with, `control_bits` names bits of its control registers.

pub(crate) mod confinement;
pub(crate) mod control_bits;
pub(crate) mod cpuid;
pub(crate) mod death;
pub(crate) mod debug;
pub(crate) mod exit;
pub(crate) mod exit_counts;
pub(crate) mod halt_watch;
pub(crate) mod host_cpu;
pub(crate) mod msrs;
pub(crate) mod page_walk;
pub(crate) mod registers;
pub(crate) mod thread;
pub(crate) mod xstate;

pub use death::Death;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::kvm::KvmError;
use crate::machine::VmExit;
use crate::profile::Profile;

/// Something that happened in the guest and concerns the machine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Exit<'a> {
    /// `in`: fill `data` with what `port` says.
    PortRead {
        /// I/O port.
        port: u16,
        /// To be filled.
        data: &'a mut [u8],
    },
    /// `out`: hand `data` to `port`.
    PortWrite {
        /// I/O port.
        port: u16,
        /// What the guest wrote.
        data: &'a [u8],
    },
    /// A load from where no RAM is.
    MmioRead {
        /// Guest physical address.
        address: u64,
        /// To be filled.
        data: &'a mut [u8],
    },
    /// A store to where no RAM is.
    MmioWrite {
        /// Guest physical address.
        address: u64,
        /// What the guest wrote.
        data: &'a [u8],
    },
    /// Another thread wants the vCPU's attention.
    Kicked,
}

/// What the engine does after an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Goes on running the guest.
    Resume,
    /// Ends the guest.
    Stop(VmExit),
    /// Leaves the guest, at an instruction boundary and with nothing half done, to be run again later.
    Pause,
    /// Leaves the guest if it is halted with interrupts disabled, goes on otherwise.
    StopIfHalted,
}

/// Why the engine has left a guest that lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// It was told to end the guest.
    Ended(VmExit),
    /// It was told to pause. Running it again goes on where it was.
    Paused,
    /// This vCPU has halted with interrupts disabled: nothing but another vCPU can wake it.
    Halted,
    /// It has come to where a debugger wants it to stop. Running it again goes on where it was.
    Trapped(debug::Trap),
}

/// The state of a vCPU, or of what all of them share, as its engine writes it down: JSON.
pub(crate) type Saved = Box<serde_json::value::RawValue>;

/// Gets a vCPU out of the guest from any thread: it will exit with [`Exit::Kicked`] soon.
pub(crate) trait Kick: Send + Sync {
    /// Kicks the vCPU. Harmless when it does not run.
    ///
    /// # Errors
    /// The host refused to signal the thread.
    fn kick(&self) -> io::Result<()>;

    /// CPU time that the thread of the vCPU has used; `None` while it does not run.
    fn cpu_time(&self) -> Option<Duration>;
}

/// Something that runs guest code.
pub(crate) trait CpuEngine: debug::DebugCpu + Send {
    /// The handle by which other threads kick this vCPU.
    fn kicker(&self) -> Arc<dyn Kick>;

    /// Runs the guest on the calling thread, always the same one, until `handler` has it leave.
    ///
    /// # Errors
    /// The guest died, or the host failed.
    fn run(&mut self, handler: &mut dyn FnMut(Exit<'_>) -> Action) -> Result<Left, CpuError>;

    /// The state of the vCPU, which is paused. Called on its thread.
    ///
    /// # Errors
    /// The host did not say.
    fn save(&mut self) -> Result<Saved, CpuError>;

    /// What there is to say about the run, where the engine counts that.
    fn profile(&mut self) -> Option<Profile> {
        None
    }
}

/// Why a vCPU ended that nobody stopped.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// The guest did something it cannot come back from.
    #[error("the guest died: {0}")]
    Died(Box<Death>),
    /// KVM failed.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The vCPU's thread could not be bound to CPUs of the host.
    #[error(
        "vCPU {vcpu} cannot run on the host's CPUs {cpus:?} (see /proc/self/status, Cpus_allowed_list): {source}"
    )]
    Affinity {
        /// Its number.
        vcpu: u8,
        /// The CPUs that were asked for.
        cpus: Vec<u16>,
        /// What the host said.
        source: io::Error,
    },
    /// The thread of the vCPU could not be started, or panicked.
    #[error("the vCPU's thread failed: {0}")]
    Thread(String),
}
