//! What runs a machine's CPU and carries its interrupts: the seam between the machine and its engines.

use vmm_sys_util::eventfd::EventFd;

use super::Statistics;
use super::opened::Opened;
use crate::boot::Entry;
use crate::config::{Engine, VmConfig};
use crate::cpu::host_cpu::HostCpu;
use crate::cpu::{CpuEngine, Saved};
use crate::interrupt::InterruptLine;
use crate::kvm::{Host, KvmError, KvmPlatform};
use crate::memory::GuestMemory;
use crate::soft::{self, SoftPlatform};

/// How a machine's vCPUs begin.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start<'a> {
    /// The first one at this entry, the others when it starts them.
    Boot(Entry),
    /// All of them as they were saved.
    Restore {
        /// What [`Platform::save`] returned.
        platform: &'a Saved,
        /// What [`CpuEngine::save`] returned, for each.
        cpus: &'a [Saved],
        /// Nanoseconds that have passed since, by which the guest's clocks are put forward.
        elapsed_ns: u64,
    },
}

/// An engine's side of one machine.
pub(crate) trait Platform: Send {
    /// What a guest's kernel command line needs, beyond the usual.
    ///
    /// # Errors
    /// KVM refused to say what kind of host this is.
    fn cmdline(&self) -> Result<&'static str, KvmError>;

    /// An interrupt line that raises input `irq` of the interrupt controllers.
    ///
    /// # Errors
    /// No descriptors are left, or KVM refused.
    fn interrupt_line(&self, irq: u32) -> Result<std::sync::Arc<dyn InterruptLine>, KvmError>;

    /// Lets a guest's write of `value` (four bytes) at `address` signal `event` without an exit, where the engine can
    /// do that. Where it cannot, the write arrives at the device like any other.
    ///
    /// # Errors
    /// KVM refused.
    fn notify_on_write(&self, address: u64, value: u32, event: &EventFd) -> Result<(), KvmError>;

    /// The vCPUs, about to start, which keep a profile if asked to and able. Called once.
    ///
    /// # Errors
    /// KVM refused, the engine cannot start a guest this way, or the saved state is damaged.
    fn create_cpus(
        &mut self,
        start: Start<'_>,
        vcpus: u8,
        profile: bool,
    ) -> Result<Vec<Box<dyn CpuEngine>>, KvmError>;

    /// Whether there is a PIC beside the I/O APIC.
    fn has_pic(&self) -> bool {
        true
    }

    /// What takes its time and the guest need not wait for. Called when the vCPUs run, by the thread that started them.
    fn attend(&self) {}

    /// What the engine counts besides, by itself.
    fn statistics(&self) -> Vec<Statistics> {
        Vec::new()
    }

    /// The state of what the vCPUs share: interrupt controllers, timer, clock. They are paused.
    ///
    /// # Errors
    /// KVM did not say.
    fn save(&self) -> Result<Saved, KvmError>;
}

/// Opens the engine for the machine of `config` with `memory`.
///
/// # Errors
/// KVM refused; both engines run the guest's programs on it. Or the engine does not run as many vCPUs.
pub(super) fn open(
    config: &VmConfig,
    memory: &GuestMemory,
    opened: &Opened,
) -> Result<Box<dyn Platform>, KvmError> {
    Ok(match opened.engine(config.engine) {
        Engine::Soft if config.vcpus > 1 => return Err(KvmError::Vcpus(config.vcpus)),
        // Our own kernel does without a PIC; others may want it, with `noapic` for one.
        Engine::Soft => Box::new(SoftPlatform::new(&opened.kvm, memory, !config.own_kernel)?),
        _ => Box::new(KvmPlatform::new(opened.kvm.clone(), memory)?),
    })
}

/// What [`Platform::cmdline`] of that engine would say, without making a machine where that is possible.
///
/// # Errors
/// KVM has to be asked, and is absent or refused.
pub(super) fn cmdline(choice: Engine, memory: &GuestMemory) -> Result<&'static str, KvmError> {
    let cpu = HostCpu::read();
    match choice.on_cpu(&cpu) {
        Engine::Soft => Ok(soft::CMDLINE),
        _ if cpu.has_virtualisation => Ok(""),
        _ => KvmPlatform::new(Host::open_on(&cpu)?, memory)?.cmdline(),
    }
}

impl Engine {
    /// What [`Engine::Auto`] stands for on this host; the others as they are.
    pub fn on_this_host(self) -> Self {
        self.on_cpu(&HostCpu::read())
    }

    /// The same on a host with this CPU.
    pub(crate) fn on_cpu(self, cpu: &HostCpu) -> Self {
        match self {
            Self::Auto if cpu.has_virtualisation => Self::Kvm,
            Self::Auto => Self::Soft,
            chosen => chosen,
        }
    }
}
