//! Only ring 3 of a guest, under KVM; its kernel runs somewhere else (`crate::soft`).
//!
//! ```text
//!   registers in ring 3 ──Ring3::enter──► native ──event──► the guest's handler, which KVM sees as HLT
//!                                           │                        │
//!                                         kick, alarm        registers at the handler's first
//!                                           ▼                instruction, frame on the stack
//!                               registers where ring 3 was
//! ```
//!
//! KVM delivers an event of ring 3 as the guest's interrupt table says: it switches stacks, pushes the frame and goes
//! to the handler. The pages that handlers begin in are, in KVM's view only, full of HLT ([`slots`]), so that KVM_RUN
//! ends right there. [`entry_points`] knows where they are, [`syscall`] completes what a KVM without hardware assistance
//! leaves of a SYSCALL, [`thread`] is about signal and alarm, [`extended`] about the FPU's state. [`run`] is the loop
//! around KVM_RUN, [`arrival`] what follows when it has ended at a handler.
//!
//! What the guest's kernel must do for its part, and every known one does:
//! - its interrupt table, descriptor table, task state, kernel stacks and page tables are not on a page that a handler
//!   begins in, since KVM reads those itself and would read HLTs;
//! - such a page is not mapped for programs. One that reads it reads HLTs, one that writes it ends the guest.
//!
//! A SYSCALL may leave the frame of a page fault below the top of the kernel's stack, where nothing is kept.
//!
//! KVM does not see what others write to the guest's page tables: see [`Ring3::flush`].

mod arrival;
mod entry_points;
mod extended;
mod run;
mod slots;
mod syscall;
mod thread;

use std::sync::Arc;

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_device_attr, kvm_regs, kvm_sregs};
use kvm_ioctls::{SyncReg, VcpuFd};
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;

pub(crate) use extended::ExtendedState;

use super::kick::Kicker;
use super::syscall_msrs::{MSRS, SyscallMsrs};
use super::{Host, KvmError, KvmStats, death, machine, msrs};
use crate::cpu::{Action, CpuError, Exit, Kick};
use crate::memory::GuestMemory;
use crate::sys::tsc::tsc;
use entry_points::EntryPoints;
use run::End;
use slots::Slots;
use thread::RunningThread;

/// DR6 with nothing to report.
const DR6_CLEAR: u64 = 0xffff_0ff0;

ioctl_iow_nr!(KVM_SET_DEVICE_ATTR, kvm_bindings::KVMIO, 0xe1, kvm_device_attr);

/// The registers that travel between ring 3 and whoever runs ring 0.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ring3State {
    /// General registers.
    pub(crate) regs: kvm_regs,
    /// Segments, tables and control registers. CR8, the APIC base and pending interrupts are left alone.
    pub(crate) sregs: kvm_sregs,
    /// What SYSCALL does; only read.
    pub(crate) syscall: SyscallMsrs,
}

/// Why ring 3 was left. The registers are at an instruction boundary in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ring3Exit {
    /// An exception: the registers are the kernel's, at the first instruction of the handler, with the frame pushed.
    Kernel,
    /// SYSCALL was executed: the registers are the kernel's, at its first instruction.
    Syscall,
    /// The next instruction of ring 3 is one that KVM cannot run; it must be interpreted.
    Interpret,
    /// Somebody kicked, or the time was up.
    Kicked,
    /// Ring 3 accessed the machine, whose handler said this. Ring 3 has mostly done the instruction; where that caused
    /// an exception, the registers are the kernel's.
    Accessed(Action),
}

/// A machine of KVM that runs only ring 3.
#[derive(Debug)]
pub(crate) struct Ring3 {
    vcpu: VcpuFd,
    kicker: Arc<Kicker>,
    slots: Slots,
    memory: GuestMemory,
    entry_points: EntryPoints,
    thread: Option<RunningThread>,
    tsc_khz: u32,
    /// What KVM has.
    syscall: SyscallMsrs,
    apic_base: u64,
    must_flush: bool,
}

impl Ring3 {
    /// Makes the machine, with a vCPU that reports `cpuid` (where KVM can have a say in that). KVM is told of `memory` when
    /// ring 3 is entered for the first time.
    ///
    /// # Errors
    /// KVM refused.
    pub(crate) fn create(host: &Host, memory: &GuestMemory, cpuid: &CpuId) -> Result<Self, KvmError> {
        let vm = machine::create_vm(host)?;
        let mut vcpu = vm.create_vcpu(0).map_err(KvmError::call("create a vCPU"))?;
        vcpu.set_cpuid2(cpuid).map_err(KvmError::call("set CPUID"))?;
        for registers in [SyncReg::Register, SyncReg::SystemRegister, SyncReg::VcpuEvents] {
            vcpu.set_sync_valid_reg(registers);
        }
        use_tsc_of_host(&vcpu)?;
        let tsc_khz = vcpu.get_tsc_khz().map_err(KvmError::call("tell the TSC's frequency"))?;
        let apic_base = vcpu.get_sregs().map_err(KvmError::call("read system registers"))?.apic_base;
        let kicker = Arc::new(Kicker::new(&vcpu)?);
        Ok(Self {
            slots: Slots::new(vm, memory)?,
            vcpu,
            kicker,
            memory: memory.clone(),
            entry_points: EntryPoints::default(),
            thread: None,
            tsc_khz,
            syscall: SyscallMsrs::default(),
            apic_base,
            must_flush: false,
        })
    }

    /// The handle to get ring 3 to an end from another thread. What is to be done is recorded before the kick, and
    /// looked for between two calls of [`Self::enter`]: some kicks end ring 3 without being reported as such.
    pub(crate) fn kicker(&self) -> Arc<dyn Kick> {
        self.kicker.clone()
    }

    /// What KVM counts of the vCPU that runs ring 3.
    pub(crate) fn stats(&self) -> Option<KvmStats> {
        KvmStats::open(&self.vcpu, "kvm_vcpu0".to_owned())
    }

    /// What CPUID says, as far as KVM tells. It may have put back features that programs can use regardless.
    ///
    /// # Errors
    /// KVM does not say.
    pub(crate) fn cpuid(&self) -> Result<CpuId, KvmError> {
        self.vcpu.get_cpuid2(KVM_MAX_CPUID_ENTRIES).map_err(KvmError::call("read the vCPU's CPUID"))
    }

    /// Thousand ticks of the TSC in a second.
    pub(crate) fn tsc_khz(&self) -> u32 {
        self.tsc_khz
    }

    /// Makes the calling thread the one that [`Self::enter`] is called on. The first entry does that by itself.
    ///
    /// # Errors
    /// The host gives no timer.
    pub(crate) fn adopt_thread(&mut self) -> Result<(), KvmError> {
        self.kicker.adopt_thread();
        self.thread = Some(RunningThread::adopt(&self.vcpu, self.tsc_khz)?);
        Ok(())
    }

    /// The guest has flushed its TLB, or part of it. KVM keeps using page-table entries as it saw them first, until
    /// this: due whenever an entry that was present has changed. (What was absent, or not permitted, KVM looks up
    /// again.) Costs nothing until the next entry, which then makes KVM forget all of them.
    pub(crate) fn flush(&mut self) {
        self.must_flush = true;
        self.entry_points.forget_translations();
    }

    /// Runs ring 3 from `state` until something happens, or until the TSC reaches `until`. Accesses to the machine go
    /// to `handler`.
    ///
    /// # Errors
    /// The guest died, or KVM failed.
    pub(crate) fn enter(
        &mut self,
        state: &mut Ring3State,
        until: Option<u64>,
        handler: &mut dyn FnMut(Exit<'_>) -> Action,
    ) -> Result<Ring3Exit, CpuError> {
        if self.thread.is_none() {
            self.adopt_thread()?;
        }
        if !self.set_alarm(until)? {
            return Ok(Ring3Exit::Kicked);
        }
        self.set_up_machine(state)?;
        self.load(state);
        let entered = state.sregs;
        let end = self.run(state, until, handler)?;
        self.store(state);
        match end {
            End::Handler => self.arrive(state, &entered),
            End::Syscall => {
                let rsp = state.regs.rsp;
                syscall::complete(&state.syscall, &mut state.regs, &mut state.sregs, rsp);
                state.sregs.cr2 = entered.cr2;
                Ok(Ring3Exit::Syscall)
            }
            End::Kicked => Ok(Ring3Exit::Kicked),
            End::Accessed { action, at_handler } => {
                if at_handler {
                    self.arrive(state, &entered)?;
                }
                Ok(Ring3Exit::Accessed(action))
            }
        }
    }

    /// Reads the state of FPU and vector units.
    ///
    /// # Errors
    /// KVM refused.
    pub(crate) fn extended_state(&self) -> Result<Box<ExtendedState>, KvmError> {
        extended::read(&self.vcpu)
    }

    /// Sets the state of FPU and vector units.
    ///
    /// # Errors
    /// KVM refused: it is not one that XRSTOR would take.
    pub(crate) fn set_extended_state(&self, state: &ExtendedState) -> Result<(), KvmError> {
        extended::write(&self.vcpu, state)
    }

    /// Sets XCR0.
    ///
    /// # Errors
    /// KVM refused: it is not a value that XSETBV would take.
    pub(crate) fn set_xcr0(&self, value: u64) -> Result<(), KvmError> {
        extended::write_xcr0(&self.vcpu, value)
    }

    /// Reads DR6, which says what a debug exception in ring 3 was about, and clears it.
    ///
    /// # Errors
    /// KVM refused.
    pub(crate) fn take_debug_status(&self) -> Result<u64, KvmError> {
        let mut registers = self.vcpu.get_debug_regs().map_err(KvmError::call("read debug registers"))?;
        let status = std::mem::replace(&mut registers.dr6, DR6_CLEAR);
        self.vcpu.set_debug_regs(&registers).map_err(KvmError::call("set debug registers"))?;
        Ok(status)
    }

    /// Sets the alarm; whether there is time left.
    fn set_alarm(&mut self, until: Option<u64>) -> Result<bool, KvmError> {
        let (Some(until), Some(thread)) = (until, &mut self.thread) else { return Ok(true) };
        let now = tsc();
        if until <= now {
            return Ok(false);
        }
        thread.set_alarm(until, now)?;
        Ok(true)
    }

    /// Makes memory and MSRs what `state` asks for.
    fn set_up_machine(&mut self, state: &Ring3State) -> Result<(), KvmError> {
        if let Some(pages) = self.entry_points.refresh(&self.memory, &state.sregs, state.syscall.lstar) {
            tracing::debug!(pages = pages.len(), "the guest has other exception handlers");
            self.slots.replace_by_hlt(pages)?;
        }
        if self.must_flush {
            self.slots.flush()?;
            self.must_flush = false;
        }
        if self.syscall != state.syscall {
            let SyscallMsrs { star, lstar, fmask } = state.syscall;
            let [star_msr, lstar_msr, fmask_msr] = MSRS;
            let values = [(star_msr, star), (lstar_msr, lstar), (fmask_msr, fmask)];
            msrs::write(&self.vcpu, &values, "set the system call MSRs")?;
            self.syscall = state.syscall;
        }
        Ok(())
    }

    fn load(&mut self, state: &Ring3State) {
        let sync = self.vcpu.sync_regs_mut();
        sync.regs = state.regs;
        sync.sregs = kvm_sregs {
            apic_base: self.apic_base,
            cr8: 0,
            interrupt_bitmap: Default::default(),
            ..state.sregs
        };
        self.vcpu.set_sync_dirty_reg(SyncReg::Register);
        self.vcpu.set_sync_dirty_reg(SyncReg::SystemRegister);
    }

    fn store(&self, state: &mut Ring3State) {
        let sync = self.vcpu.sync_regs();
        state.regs = sync.regs;
        let kvm_sregs { apic_base, cr8, interrupt_bitmap, .. } = state.sregs;
        state.sregs = kvm_sregs { apic_base, cr8, interrupt_bitmap, ..sync.sregs };
    }
}

/// Lets the guest's TSC be the host's.
///
/// Without hardware assistance it is that anyway, and KVM may not know the attribute.
fn use_tsc_of_host(vcpu: &VcpuFd) -> Result<(), KvmError> {
    let offset = 0u64;
    let attribute = kvm_device_attr {
        flags: 0,
        group: kvm_bindings::KVM_VCPU_TSC_CTRL,
        attr: kvm_bindings::KVM_VCPU_TSC_OFFSET.into(),
        addr: (&raw const offset).expose_provenance() as u64,
    };
    // SAFETY: KVM reads `attribute`, and eight bytes at `addr`, where `offset` is.
    let result = unsafe { ioctl_with_ref(vcpu, KVM_SET_DEVICE_ATTR(), &attribute) };
    match (result, std::io::Error::last_os_error()) {
        (0, _) => Ok(()),
        (_, error) if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENOTTY)) => Ok(()),
        (_, error) => Err(KvmError::call("set the TSC's offset")(error)),
    }
}

impl Ring3 {
    fn death(&self, cause: impl Into<String>, bytes: Option<&[u8]>) -> CpuError {
        match death::describe(&self.vcpu, &self.memory, cause.into(), bytes) {
            Ok(death) => CpuError::Died(Box::new(death)),
            Err(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests;
