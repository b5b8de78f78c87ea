//! A vCPU of KVM as a CPU engine.
//!
//! The run loop knows the exits of KVM and nothing of devices: what concerns the machine goes to the handler, what
//! only a KVM without hardware assistance does goes to the repairs, and what is left means that the guest died.

mod debug;

use std::sync::Arc;

use kvm_bindings::{CpuId, KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_UNINITIALIZED};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::internal_error::InternalError;
use super::kick::Kicker;
use super::port_access::port_access;
use super::state::VcpuState;
use super::without_hardware::{Repairs, SyscallWatch};
use super::{Host, KvmError, KvmMachine, KvmStats, death, lapic, msrs, without_hardware};
use crate::boot::Entry;
use crate::cpu::cpuid::Place;
use crate::cpu::debug::{Stops, Trap};
use crate::cpu::registers;
use crate::cpu::{Action, CpuEngine, CpuError, Exit, Kick, Left, Saved};
use crate::memory::GuestMemory;

const RFLAGS_IF: u64 = 1 << 9;

/// A vCPU of a machine.
#[derive(Debug)]
pub(crate) struct KvmCpu {
    fd: VcpuFd,
    /// The registers that are worth saving.
    msrs: Arc<[u32]>,
    memory: GuestMemory,
    kicker: Arc<Kicker>,
    repairs: Option<Repairs>,
    /// The watch for system call set-up where one is needed, until it holds.
    watch: Option<Arc<SyscallWatch>>,
    /// Where a debugger wants it to stop, and whether it has.
    stops: Stops,
    trapped: Option<Trap>,
}

impl KvmCpu {
    /// Makes the vCPU at `place`, as after a reset.
    ///
    /// # Errors
    /// KVM refused.
    pub(crate) fn create(
        host: &Host,
        machine: &KvmMachine,
        memory: &GuestMemory,
        place: Place,
    ) -> Result<Self, KvmError> {
        let needs_repairs = machine.needs_repairs()?;
        let mut fd = machine.fd.create_vcpu(place.id.into()).map_err(KvmError::call("create a vCPU"))?;
        let cpuid = set_cpuid(host, &fd, place, needs_repairs)?;
        let repairs = needs_repairs.then(|| Repairs::new(&mut fd, cpuid.as_slice()));
        let kicker = Arc::new(Kicker::new(&fd)?);
        let watch = needs_repairs.then(|| machine.watch.clone());
        let msrs = machine.saved_msrs();
        Ok(Self {
            fd,
            msrs,
            memory: memory.clone(),
            kicker,
            repairs,
            watch,
            stops: Stops::default(),
            trapped: None,
        })
    }

    /// Sets the vCPU up to start: the first one at `entry`, the others when it tells them to.
    ///
    /// # Errors
    /// KVM refused.
    pub(crate) fn start_at(&self, entry: Option<Entry>) -> Result<(), KvmError> {
        msrs::set_boot_msrs(&self.fd)?;
        lapic::set_local_inputs(&self.fd)?;
        let Some(entry) = entry else { return Ok(()) };
        let mut sregs = self.fd.get_sregs().map_err(KvmError::call("read system registers"))?;
        registers::set_system_registers(&mut sregs, entry, &self.memory)
            .map_err(|error| KvmError::call("build the first page tables")(std::io::Error::other(error)))?;
        self.fd.set_sregs(&sregs).map_err(KvmError::call("set system registers"))?;
        let general = registers::general_registers(entry);
        self.fd.set_regs(&general).map_err(KvmError::call("set general registers"))
    }

    /// What KVM counts of it, the vCPU `index`.
    pub(crate) fn stats(&self, index: u8) -> Option<KvmStats> {
        KvmStats::open(&self.fd, format!("kvm_vcpu{index}"))
    }

    /// Makes the vCPU the one that was saved, in a machine whose time is `elapsed_ns` later.
    ///
    /// # Errors
    /// The state is not one of KVM's, or KVM refused it.
    pub(crate) fn restore(&self, state: &Saved, elapsed_ns: u64) -> Result<(), KvmError> {
        VcpuState::parse(state)?.set(&self.fd, elapsed_ns)
    }

    /// Completes what the last exit has begun, so that the registers are at an instruction boundary.
    fn complete_exit(&mut self, handler: &mut dyn FnMut(Exit<'_>) -> Action) -> Result<(), CpuError> {
        loop {
            self.kicker.exit_at_once();
            match self.fd.run() {
                // A long access goes on as another one.
                Ok(VcpuExit::MmioRead(address, data)) => drop(handler(Exit::MmioRead { address, data })),
                Ok(VcpuExit::MmioWrite(address, data)) => drop(handler(Exit::MmioWrite { address, data })),
                Ok(VcpuExit::IoIn(..) | VcpuExit::IoOut(..)) => {
                    port_access(self.fd.get_kvm_run(), handler);
                }
                Err(error) if error.errno() == libc::EINTR => break,
                Ok(other) => {
                    let cause = format!("unexpected exit {other:?} while pausing");
                    return Err(self.death(cause, None));
                }
                Err(error) => return Err(KvmError::call("pause the guest")(error).into()),
            }
        }
        self.kicker.settle();
        Ok(())
    }

    /// Notices when the watch for system call set-up holds.
    fn look_at_watch(&mut self) -> Result<(), KvmError> {
        let (Some(watch), Some(repairs)) = (&self.watch, &mut self.repairs) else { return Ok(()) };
        if watch.holds()? {
            self.watch = None;
            repairs.watch_holds(&self.fd, &self.memory)?;
            self.set_breakpoints()?;
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

    /// It has stopped before the instruction at `at`: for the repairs, or for the debugger.
    fn stopped(&mut self, at: u64) -> Result<(), CpuError> {
        match &mut self.repairs {
            Some(repairs) if repairs.handler() == Some(at) || self.stops.is_empty() => {
                repairs.page_fault_handler_reached(&mut self.fd, &self.memory)?;
            }
            _ => {
                self.trapped = self.trap();
                if self.trapped.is_none() {
                    return Err(self.death("a breakpoint that nobody has set", None));
                }
            }
        }
        Ok(())
    }

    /// Whether the vCPU sleeps in `hlt` with interrupts disabled, or waits to be started.
    fn is_halted_for_good(&self) -> Result<bool, KvmError> {
        let state = self.fd.get_mp_state().map_err(KvmError::call("read the vCPU's state"))?;
        match state.mp_state {
            // It was never started.
            KVM_MP_STATE_UNINITIALIZED | KVM_MP_STATE_INIT_RECEIVED => return Ok(true),
            KVM_MP_STATE_HALTED => {}
            _ => return Ok(false),
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
                self.set_breakpoints()?;
            }
            Ok(VcpuExit::Debug(stop)) => {
                let at = stop.pc;
                self.stopped(at)?;
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

    fn run(&mut self, handler: &mut dyn FnMut(Exit<'_>) -> Action) -> Result<Left, CpuError> {
        self.kicker.adopt_thread();
        loop {
            match self.run_once(handler)? {
                Action::Resume => {
                    if let Some(trap) = self.trapped.take() {
                        return Ok(Left::Trapped(trap));
                    }
                }
                Action::Stop(exit) => return Ok(Left::Ended(exit)),
                Action::Pause => {
                    self.complete_exit(handler)?;
                    return Ok(Left::Paused);
                }
                Action::StopIfHalted if self.is_halted_for_good()? => return Ok(Left::Halted),
                Action::StopIfHalted => {}
            }
        }
    }

    fn save(&mut self) -> Result<Saved, CpuError> {
        Ok(VcpuState::get(&self.fd, &self.msrs)?.write()?)
    }
}

fn set_cpuid(host: &Host, vcpu: &VcpuFd, place: Place, needs_repairs: bool) -> Result<CpuId, KvmError> {
    let mut cpuid = host.cpuid(place)?;
    if needs_repairs {
        without_hardware::hide_unemulated(cpuid.as_mut_slice());
    }
    vcpu.set_cpuid2(&cpuid).map_err(KvmError::call("set CPUID"))?;
    Ok(cpuid)
}
