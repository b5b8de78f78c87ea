//! A vCPU of KVM as a CPU engine.
//!
//! The run loop knows the exits of KVM and nothing of devices: what concerns the machine goes to the handler, what
//! only a KVM without hardware assistance does goes to the repairs, and what is left means that the guest died.

use std::sync::Arc;

use kvm_bindings::{CpuId, KVM_MP_STATE_HALTED};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};

use super::internal_error::InternalError;
use super::kick::Kicker;
use super::port_access::port_access;
use super::without_hardware::{Repairs, SyscallWatch};
use super::{Host, KvmError, KvmMachine, death, lapic, msrs, without_hardware};
use crate::boot::Entry;
use crate::cpu::registers;
use crate::cpu::{Action, CpuEngine, CpuError, Exit, Kick};
use crate::machine::VmExit;
use crate::memory::GuestMemory;

const RFLAGS_IF: u64 = 1 << 9;

/// The first (and so far only) vCPU of a machine.
#[derive(Debug)]
pub(crate) struct KvmCpu {
    fd: VcpuFd,
    memory: GuestMemory,
    kicker: Arc<Kicker>,
    repairs: Option<Repairs>,
    /// The machine, as long as its system call set-up must be and is not yet watched.
    unwatched: Option<Arc<VmFd>>,
    /// The watch, until it holds.
    watch: Option<SyscallWatch>,
}

impl KvmCpu {
    /// Makes the vCPU and sets it up to start at `entry`.
    ///
    /// # Errors
    /// KVM refused.
    pub(crate) fn create(
        host: &Host,
        machine: &KvmMachine,
        memory: &GuestMemory,
        entry: Entry,
    ) -> Result<Self, KvmError> {
        let needs_repairs = machine.needs_repairs()?;
        let mut fd = machine.fd.create_vcpu(0).map_err(KvmError::call("create a vCPU"))?;
        let cpuid = set_cpuid(host, &fd, needs_repairs)?;
        msrs::set_boot_msrs(&fd)?;
        let mut sregs = fd.get_sregs().map_err(KvmError::call("read system registers"))?;
        registers::set_system_registers(&mut sregs, entry, memory)
            .map_err(|error| KvmError::call("build the first page tables")(std::io::Error::other(error)))?;
        fd.set_sregs(&sregs).map_err(KvmError::call("set system registers"))?;
        fd.set_regs(&registers::general_registers(entry)).map_err(KvmError::call("set general registers"))?;
        lapic::set_local_inputs(&fd)?;
        let repairs = needs_repairs.then(|| Repairs::new(&mut fd, cpuid.as_slice()));
        let kicker = Arc::new(Kicker::new(&fd)?);
        let unwatched = needs_repairs.then(|| machine.fd.clone());
        Ok(Self { fd, memory: memory.clone(), kicker, repairs, unwatched, watch: None })
    }

    /// Notices when the watch for system call set-up holds.
    fn look_at_watch(&mut self) -> Result<(), KvmError> {
        let (Some(watch), Some(repairs)) = (&self.watch, &mut self.repairs) else { return Ok(()) };
        if watch.holds()? {
            self.watch = None;
            repairs.watch_holds(&self.fd, &self.memory)?;
        }
        Ok(())
    }

    /// What to do after a failed emulation or another internal error of KVM.
    fn internal_error(&mut self) -> Result<(), CpuError> {
        let failure = InternalError::of(self.fd.get_kvm_run());
        if let (Some(repairs), Some(bytes)) = (&mut self.repairs, failure.instruction())
            && repairs.emulation_failure(&mut self.fd, &self.memory, bytes)?
        {
            return Ok(());
        }
        Err(self.death(failure.cause(), failure.instruction()))
    }

    fn death(&self, cause: impl Into<String>, bytes: Option<&[u8]>) -> CpuError {
        match death::describe(&self.fd, &self.memory, cause.into(), bytes) {
            Ok(death) => CpuError::Died(Box::new(death)),
            Err(error) => error.into(),
        }
    }

    /// Whether the vCPU sleeps in `hlt` with interrupts disabled.
    fn is_halted_for_good(&self) -> Result<bool, KvmError> {
        let state = self.fd.get_mp_state().map_err(KvmError::call("read the vCPU's state"))?;
        if state.mp_state != KVM_MP_STATE_HALTED {
            return Ok(false);
        }
        let regs = self.fd.get_regs().map_err(KvmError::call("read general registers"))?;
        Ok(regs.rflags & RFLAGS_IF == 0)
    }

    /// Enters the guest once and deals with the exit.
    fn run_once(&mut self, handler: &mut dyn FnMut(Exit<'_>) -> Action) -> Result<Action, CpuError> {
        match self.fd.run() {
            Ok(VcpuExit::IoIn(..) | VcpuExit::IoOut(..)) => {
                return Ok(port_access(self.fd.get_kvm_run(), handler));
            }
            Ok(VcpuExit::MmioRead(address, data)) => return Ok(handler(Exit::MmioRead { address, data })),
            Ok(VcpuExit::MmioWrite(address, data)) => return Ok(handler(Exit::MmioWrite { address, data })),
            Ok(VcpuExit::Intr) => return Ok(handler(Exit::Kicked)),
            Ok(VcpuExit::InternalError) => self.internal_error()?,
            Ok(VcpuExit::X86Wrmsr(write)) if self.repairs.is_some() => {
                let (index, value) = (write.index, write.data);
                *write.error = 0;
                if let Some(repairs) = &mut self.repairs {
                    repairs.syscall_msr_written(&self.fd, &self.memory, index, value)?;
                }
            }
            Ok(VcpuExit::Debug(_)) if self.repairs.is_some() => {
                if let Some(repairs) = &mut self.repairs {
                    repairs.page_fault_handler_reached(&mut self.fd, &self.memory)?;
                }
            }
            Ok(VcpuExit::Shutdown) => return Err(self.death("triple fault", None)),
            Ok(VcpuExit::FailEntry(reason, _)) => {
                return Err(
                    self.death(format!("the host's CPU refused the guest's state, reason {reason:#x}"), None)
                );
            }
            Ok(other) => {
                let cause = format!("unexpected exit {other:?}");
                return Err(self.death(cause, None));
            }
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                self.kicker.settle();
                self.look_at_watch()?;
                return Ok(handler(Exit::Kicked));
            }
            Err(error) => return Err(KvmError::call("run the guest")(error).into()),
        }
        Ok(Action::Resume)
    }
}

impl CpuEngine for KvmCpu {
    fn kicker(&self) -> Arc<dyn Kick> {
        self.kicker.clone()
    }

    fn run(&mut self, handler: &mut dyn FnMut(Exit<'_>) -> Action) -> Result<VmExit, CpuError> {
        self.kicker.adopt_thread();
        if let Some(machine) = self.unwatched.take() {
            self.watch = Some(SyscallWatch::begin(machine, self.kicker.clone())?);
        }
        loop {
            match self.run_once(handler)? {
                Action::Resume => {}
                Action::Stop(exit) => return Ok(exit),
                Action::StopIfHalted if self.is_halted_for_good()? => return Ok(VmExit::PoweredOff),
                Action::StopIfHalted => {}
            }
        }
    }
}

fn set_cpuid(host: &Host, vcpu: &VcpuFd, needs_repairs: bool) -> Result<CpuId, KvmError> {
    let mut cpuid = host.cpuid()?;
    if needs_repairs {
        without_hardware::hide_unemulated(cpuid.as_mut_slice());
    }
    vcpu.set_cpuid2(&cpuid).map_err(KvmError::call("set CPUID"))?;
    Ok(cpuid)
}
