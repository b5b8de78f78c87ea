//! The state of the CPU as a snapshot keeps it. That of the interrupt controllers is theirs.
//!
//! Decoded code and translations are not kept: the interpreter finds them again. The guest's TSC is the host's, which
//! programs read natively, so a snapshot goes on only on the host it was taken on, and until that is started again.

use kvm_bindings::{kvm_regs, kvm_sregs};
use serde::{Deserialize, Serialize};

use super::cpu::Cpu;
use super::extended::Extended;
use super::msrs::MsrState;
use super::system::DebugRegisters;
use crate::cpu::Saved;
use crate::kvm::KvmError;

const WHAT: &str = "the CPU";

/// The state between two instructions.
#[derive(Serialize, Deserialize)]
pub(super) struct CpuState {
    /// The host's TSC then.
    tsc: u64,
    clock_start: u64,
    clock_wall_ns: u64,
    regs: kvm_regs,
    sregs: kvm_sregs,
    extended: Vec<u8>,
    xcr0: u64,
    debug: DebugRegisters,
    msrs: MsrState,
    nmi_blocked: bool,
    /// Interrupts wait for the next instruction.
    shadow: bool,
    is_halted: bool,
}

impl CpuState {
    /// The state of `cpu`, whose FPU and vector state is `extended`.
    pub(super) fn get(cpu: &Cpu, extended: &[u8], is_halted: bool) -> Self {
        let (regs, sregs) = cpu.export();
        let clock = &cpu.system.clock;
        let wall = clock.wall_at_start().as_nanos();
        Self {
            tsc: clock.tsc(),
            clock_start: clock.start(),
            clock_wall_ns: u64::try_from(wall).unwrap_or(u64::MAX),
            regs,
            sregs,
            extended: extended.to_vec(),
            xcr0: cpu.xcr0,
            debug: cpu.system.debug,
            msrs: cpu.system.msrs.save(),
            nmi_blocked: cpu.system.nmi_blocked,
            shadow: cpu.shadow,
            is_halted,
        }
    }

    /// Puts the state into `cpu`, which is new. Whether it is halted.
    ///
    /// # Errors
    /// The state is damaged, or the host was started since.
    pub(super) fn set(&self, cpu: &mut Cpu) -> Result<bool, KvmError> {
        if cpu.system.clock.tsc() < self.tsc {
            return Err(damaged(
                "the host was started again since, or is another one: the guest's time would go backwards",
            ));
        }
        let mut extended = Box::new([0; 4096]);
        if self.extended.len() != extended.len() {
            return Err(damaged("the state of FPU and vector units has another size"));
        }
        extended.copy_from_slice(&self.extended);
        cpu.import(&self.regs, &self.sregs);
        cpu.extended = Some(Extended { state: extended, is_dirty: true });
        (cpu.xcr0, cpu.xcr0_is_new) = (self.xcr0, true);
        cpu.shadow = self.shadow;
        let system = &mut cpu.system;
        system.clock.go_on_from(self.clock_start, std::time::Duration::from_nanos(self.clock_wall_ns));
        system.debug = self.debug;
        system.nmi_blocked = self.nmi_blocked;
        if !system.msrs.restore(&self.msrs) {
            return Err(damaged("a model-specific register has a value that it cannot have"));
        }
        Ok(self.is_halted)
    }

    /// As JSON.
    pub(super) fn write(&self) -> Result<Saved, KvmError> {
        serde_json::value::to_raw_value(self).map_err(|error| damaged(error.to_string()))
    }

    /// From JSON.
    pub(super) fn parse(saved: &Saved) -> Result<Self, KvmError> {
        serde_json::from_str(saved.get()).map_err(|error| damaged(error.to_string()))
    }
}

fn damaged(problem: impl Into<String>) -> KvmError {
    KvmError::State { what: WHAT, problem: problem.into() }
}
