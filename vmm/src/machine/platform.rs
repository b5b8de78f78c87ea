//! What runs a machine's CPU and carries its interrupts: the seam between the machine and its engines.

use vmm_sys_util::eventfd::EventFd;

use crate::boot::Entry;
use crate::config::Engine;
use crate::cpu::CpuEngine;
use crate::interrupt::InterruptLine;
use crate::kvm::{Host, KvmError, KvmPlatform};
use crate::memory::GuestMemory;
use crate::soft::SoftPlatform;

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

    /// The vCPU, about to start at `entry`, which keeps a profile if asked to and able.
    ///
    /// # Errors
    /// KVM refused, or the engine cannot start a guest this way.
    fn create_cpu(&mut self, entry: Entry, profile: bool) -> Result<Box<dyn CpuEngine>, KvmError>;
}

/// Opens the engine that `choice` names, for a machine with `memory`.
///
/// # Errors
/// KVM is absent or refused; both engines run the guest's programs on it.
pub(super) fn open(choice: Engine, memory: &GuestMemory) -> Result<Box<dyn Platform>, KvmError> {
    let host = Host::open()?;
    Ok(match choice.on_this_host() {
        Engine::Soft => Box::new(SoftPlatform::new(&host, memory)?),
        _ => Box::new(KvmPlatform::new(host, memory)?),
    })
}

impl Engine {
    /// What [`Engine::Auto`] stands for on this host; the others as they are.
    pub fn on_this_host(self) -> Self {
        match self {
            Self::Auto if Host::has_virtualisation() => Self::Kvm,
            Self::Auto => Self::Soft,
            chosen => chosen,
        }
    }
}
