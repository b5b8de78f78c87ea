//! Repairs for a KVM without hardware assistance (kvm_pvm and the like), where guest ring 3 runs natively and guest
//! ring 0 in KVM's instruction emulator. They let an unmodified Linux kernel boot there.
//!
//! Nothing of this runs on hardware: [`Probe`] decides, by running a guest of two instructions.
//!
//! - `cpuid` hides what the emulator lacks; ring 3 sees some of it regardless, hence [`CMDLINE`].
//! - `emulation` completes instructions of ring 0 that the emulator refuses.
//! - `xsave` (with `cpu::xstate`) saves and restores the extended state for the guest's kernel; `inject` lets exceptions
//!   happen.
//! - `syscall` makes SYSCALL work, which arrives as a page fault at its own target; `syscall_watch` says when the guest
//!   sets it up.

mod cpuid;
mod emulation;
mod inject;
mod probe;
mod syscall;
mod syscall_watch;
mod xsave;

use kvm_bindings::kvm_cpuid_entry2;
use kvm_ioctls::{SyncReg, VcpuFd};
use vm_memory::{Bytes, GuestAddress};

pub(super) use cpuid::hide_unemulated;
pub(super) use probe::Probe;
pub(super) use syscall_watch::SyscallWatch;

use super::event_frame::Frame;
use super::gate::Gate;
use super::syscall_msrs::{MSRS, SyscallMsrs};
use super::{KvmError, msrs};
use crate::cpu::page_walk;
use crate::memory::GuestMemory;
use xsave::Xsave;

/// For the guest's kernel, where its own code is emulated at a million instructions a second.
///
/// - `clearcpuid`: what CPUID cannot hide and the emulator lacks; and `rep movsb` and the like, which it does a byte at
///   a time.
/// - `noreplace-smp rodata=off percpu_alloc=page`: no patching, splitting and clearing that only pays off natively.
/// - `mitigations=off`: they cost instructions at each entry and protect nothing that this backend exposes.
pub(crate) const CMDLINE: &str = "clearcpuid=smap,cx16,popcnt,erms,fsrm,xsaveopt,xsavec,xsaves,xgetbv1 \
     noreplace-smp rodata=off percpu_alloc=page mitigations=off";

/// The state of the repairs on one vCPU.
#[derive(Debug)]
pub(super) struct Repairs {
    /// Known once the guest has set up system calls.
    armed: Option<Armed>,
    xsave: Xsave,
}

#[derive(Debug)]
struct Armed {
    msrs: SyscallMsrs,
    gate: Gate,
    /// Guest physical address of the handler's first instruction.
    handler_physical: u64,
}

fn repair<T>(what: impl Into<String>) -> Result<T, KvmError> {
    Err(KvmError::Repair(what.into()))
}

impl Repairs {
    /// Prepares `vcpu`: from now on every exit brings its registers along, which saves two calls per repair.
    pub(super) fn new(vcpu: &mut VcpuFd, cpuid: &[kvm_cpuid_entry2]) -> Self {
        vcpu.set_sync_valid_reg(SyncReg::Register);
        vcpu.set_sync_valid_reg(SyncReg::SystemRegister);
        Self { armed: None, xsave: Xsave::new(cpuid) }
    }

    /// The guest's page-fault handler, where the vCPU is to stop, once system calls are set up.
    pub(super) fn handler(&self) -> Option<u64> {
        self.armed.as_ref().map(|armed| armed.gate.handler)
    }

    /// The watch for system call set-up holds from now on: catches up with what the guest has set up before. Then there
    /// may be another [`Self::handler`].
    pub(super) fn watch_holds(&mut self, vcpu: &VcpuFd, memory: &GuestMemory) -> Result<(), KvmError> {
        let [_, lstar, _] = msrs::read(vcpu, MSRS, "read the system call MSRs")?;
        if lstar == 0 || self.armed.is_some() {
            return Ok(());
        }
        self.syscall_msr_written(vcpu, memory, MSRS[1], lstar)
    }

    /// The guest wrote `value` to one of the registers that [`syscall::watch_syscall_msrs`] watches: writes it through, finds
    /// the guest's page-fault handler, where there is to be a breakpoint: [`Self::handler`].
    pub(super) fn syscall_msr_written(
        &mut self,
        vcpu: &VcpuFd,
        memory: &GuestMemory,
        index: u32,
        value: u64,
    ) -> Result<(), KvmError> {
        msrs::write(vcpu, &[(index, value)], "write a system call MSR")?;
        let [star, lstar, fmask] = msrs::read(vcpu, MSRS, "read the system call MSRs")?;
        self.armed = None;
        if lstar == 0 {
            return Ok(());
        }
        let sregs = vcpu.sync_regs().sregs;
        let paging = page_walk::Paging::from(&sregs);
        let mut gate = [0; Gate::LEN];
        let gate_at = sregs.idt.base.wrapping_add(Gate::offset(syscall::PAGE_FAULT));
        if page_walk::read(memory, paging, gate_at, &mut gate) < gate.len() {
            return repair(format!(
                "the guest set up SYSCALL before its interrupt table at {:#x}",
                sregs.idt.base
            ));
        }
        let gate = Gate::parse(gate);
        let Some(handler_physical) = page_walk::translate(memory, paging, gate.handler) else {
            return repair(format!("the guest's page-fault handler at {:#x} is not mapped", gate.handler));
        };
        tracing::debug!(lstar, handler = gate.handler, "SYSCALL is repaired from here on");
        self.armed = Some(Armed { msrs: SyscallMsrs { star, lstar, fmask }, gate, handler_physical });
        Ok(())
    }

    /// The guest has arrived at its page-fault handler: completes the SYSCALL that this may be, or steps over the
    /// handler's first instruction so that the breakpoint does not strike again.
    pub(super) fn page_fault_handler_reached(
        &mut self,
        vcpu: &mut VcpuFd,
        memory: &GuestMemory,
    ) -> Result<(), KvmError> {
        let state = vcpu.sync_regs_mut();
        let (mut regs, sregs) = (state.regs, state.sregs);
        let Some(armed) = self.armed.as_ref().filter(|armed| armed.gate.handler == regs.rip) else {
            return repair(format!("the guest stopped at {:#x}, where no breakpoint is", regs.rip));
        };
        let mut frame = [0; Frame::LEN];
        if page_walk::read(memory, (&sregs).into(), regs.rsp, &mut frame) < frame.len() {
            return repair(format!("the frame of a page fault at {:#x} is not mapped", regs.rsp));
        }
        let frame = Frame::parse(frame);
        if armed.msrs.explain(&frame) {
            syscall::enter_kernel(&mut regs, &frame, &armed.msrs, &armed.gate).map_err(KvmError::Repair)?;
        } else {
            let mut first = [0; 15];
            memory
                .read_slice(&mut first, GuestAddress(armed.handler_physical))
                .map_err(|error| KvmError::Repair(error.to_string()))?;
            emulation::step_over(&mut regs, &first).map_err(KvmError::Repair)?;
        }
        state.regs = regs;
        vcpu.set_sync_dirty_reg(SyncReg::Register);
        Ok(())
    }

    /// The emulator refused the instruction in `bytes`: completes it if it is one of those known to be refused;
    /// returns whether it was.
    pub(super) fn emulation_failure(
        &mut self,
        vcpu: &mut VcpuFd,
        memory: &GuestMemory,
        bytes: &[u8],
    ) -> Result<bool, KvmError> {
        Ok(emulation::complete(vcpu, bytes)? || self.xsave.complete(vcpu, memory, bytes)?)
    }
}
