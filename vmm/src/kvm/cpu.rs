//! A vCPU of KVM as a CPU engine.
//!
//! The run loop knows the exits of KVM and nothing of devices: what concerns the machine goes to the handler, what
//! only a KVM without hardware assistance does goes to the repairs, and what is left means that the guest died.

use std::sync::Arc;

use kvm_bindings::{
    CpuId, KVM_INTERNAL_ERROR_EMULATION, KVM_MAX_CPUID_ENTRIES, KVM_MP_STATE_HALTED, kvm_run,
};
use kvm_ioctls::{Cap, VcpuExit, VcpuFd, VmFd};

use super::kick::Kicker;
use super::without_hardware::{Repairs, SyscallWatch};
use super::{Host, KvmError, KvmMachine, cpuid, death, lapic, msrs, registers, without_hardware};
use crate::boot::Entry;
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
        let cause = match failure.suberror {
            KVM_INTERNAL_ERROR_EMULATION => "KVM cannot emulate an instruction".to_owned(),
            other => format!("internal error {other} of KVM"),
        };
        Err(self.death(cause, failure.instruction()))
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
    let mut cpuid = host
        .kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(KvmError::call("read supported CPUID"))?;
    cpuid::shape(cpuid.as_mut_slice(), host.kvm.check_extension(Cap::TscDeadlineTimer));
    if needs_repairs {
        without_hardware::hide_unemulated(cpuid.as_mut_slice());
    }
    vcpu.set_cpuid2(&cpuid).map_err(KvmError::call("set CPUID"))?;
    Ok(cpuid)
}

/// Hands the items of a port access, one or (for string instructions) several, to the handler.
fn port_access(run: &mut kvm_run, handler: &mut dyn FnMut(Exit<'_>) -> Action) -> Action {
    // SAFETY: KVM sets this member of the union for the exit that brought us here.
    let io = unsafe { run.__bindgen_anon_1.io };
    let size = usize::from(io.size);
    let start = std::ptr::from_mut(run).cast::<u8>();
    let mut action = Action::Resume;
    for item in 0..io.count as usize {
        let offset = usize::try_from(io.data_offset).unwrap_or_default() + item * size;
        // SAFETY: KVM places `count` items of `size` bytes at `data_offset` inside the mapping that `run` starts.
        let data = unsafe { start.add(offset) };
        // SAFETY: as above; `run` is borrowed exclusively, and the data lie behind its fields.
        let data = unsafe { std::slice::from_raw_parts_mut(data, size) };
        let after = if u32::from(io.direction) == kvm_bindings::KVM_EXIT_IO_IN {
            handler(Exit::PortRead { port: io.port, data })
        } else {
            handler(Exit::PortWrite { port: io.port, data })
        };
        if after != Action::Resume {
            action = after;
        }
    }
    action
}

/// What KVM says about an internal error.
struct InternalError {
    suberror: u32,
    bytes: [u8; 15],
    len: usize,
}

impl InternalError {
    /// Flag in `data[0]`: the instruction's bytes follow (KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES).
    const HAS_BYTES: u64 = 1;

    fn of(run: &kvm_run) -> Self {
        // SAFETY: KVM sets this member of the union for the exit that brought us here; it is plain numbers.
        let internal = unsafe { run.__bindgen_anon_1.internal };
        let mut error = Self { suberror: internal.suberror, bytes: [0; 15], len: 0 };
        let is_emulation = internal.suberror == KVM_INTERNAL_ERROR_EMULATION && internal.ndata >= 3;
        if is_emulation && internal.data[0] & Self::HAS_BYTES != 0 {
            // Two words hold the length in the first byte and then up to 15 bytes of instruction.
            let [len, low @ ..] = internal.data[1].to_le_bytes();
            error.bytes[..7].copy_from_slice(&low);
            error.bytes[7..].copy_from_slice(&internal.data[2].to_le_bytes());
            error.len = usize::from(len).min(error.bytes.len());
        }
        error
    }

    /// The bytes of the instruction that could not be emulated, where KVM gave them.
    fn instruction(&self) -> Option<&[u8]> {
        self.bytes.get(..self.len).filter(|bytes| !bytes.is_empty())
    }
}
