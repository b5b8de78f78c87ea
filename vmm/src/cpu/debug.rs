//! What a debugger wants of a vCPU: its registers, and to have it stop at places. `crate::gdb` is the one that asks.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::{kvm_regs, kvm_sregs};

use super::CpuError;
use crate::machine::{raise, signal};

/// Bytes of the legacy state of FPU and vector units, as FXSAVE64 writes it.
pub(crate) const FXSAVE: usize = 512;

/// The registers of a vCPU that stands still.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DebugState {
    /// General registers, RIP and flags.
    pub(crate) regs: kvm_regs,
    /// Segments and control registers.
    pub(crate) sregs: kvm_sregs,
    /// FPU and SSE registers, as FXSAVE64 writes them.
    pub(crate) fpu: [u8; FXSAVE],
}

impl Default for DebugState {
    fn default() -> Self {
        Self { regs: kvm_regs::default(), sregs: kvm_sregs::default(), fpu: [0; FXSAVE] }
    }
}

/// Where a vCPU is to stop.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stops {
    /// Before the instructions at these virtual addresses, in whatever address space.
    pub(crate) breakpoints: Vec<u64>,
    /// Behind the next instruction. Breakpoints do not count then, and interrupts wait.
    pub(crate) step: bool,
}

impl Stops {
    /// Whether there are any.
    pub(crate) fn is_empty(&self) -> bool {
        self.breakpoints.is_empty() && !self.step
    }
}

/// Why a vCPU has stopped for the debugger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trap {
    /// It is at a breakpoint.
    Breakpoint,
    /// It has done its step.
    Step,
    /// The guest has died here; to go on is to end it.
    Died,
}

/// A vCPU that stands still, as a debugger sees it. Called on its thread.
pub(crate) trait DebugCpu {
    /// Most breakpoints that it takes.
    fn most_breakpoints(&self) -> usize;

    /// Its registers.
    ///
    /// # Errors
    /// KVM did not say.
    fn registers(&mut self) -> Result<DebugState, CpuError>;

    /// Sets its general registers, RIP, flags, FPU and SSE registers; `sregs` is not looked at.
    ///
    /// # Errors
    /// KVM refused.
    fn set_registers(&mut self, state: &DebugState) -> Result<(), CpuError>;

    /// Has it stop there from now on, and nowhere else.
    ///
    /// # Errors
    /// KVM refused.
    fn stop_at(&mut self, stops: &Stops) -> Result<(), CpuError>;

    /// The debugger has written to the guest's memory.
    fn memory_changed(&mut self);
}

/// Where vCPUs say that they have stopped for the debugger.
#[derive(Debug)]
pub(crate) struct Traps {
    trapped: Mutex<Vec<(u8, Trap)>>,
    /// Signalled when there is one.
    event: Arc<OwnedFd>,
}

impl Traps {
    /// None yet.
    ///
    /// # Errors
    /// The host gives no descriptor.
    pub(crate) fn new() -> Result<Self, CpuError> {
        Ok(Self { trapped: Mutex::default(), event: signal()? })
    }

    /// A descriptor that is readable when a vCPU has stopped.
    pub(crate) fn event(&self) -> &OwnedFd {
        &self.event
    }

    /// vCPU `vcpu` has stopped.
    pub(super) fn add(&self, vcpu: u8, trap: Trap) {
        self.trapped.lock().unwrap_or_else(PoisonError::into_inner).push((vcpu, trap));
        raise(&self.event);
    }

    /// Those that have stopped since this was last asked.
    pub(crate) fn take(&self) -> Vec<(u8, Trap)> {
        // Not readable is as good as read.
        let _ = rustix::io::read(&*self.event, &mut [0u8; 8]);
        std::mem::take(&mut *self.trapped.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
