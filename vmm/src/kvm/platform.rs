//! KVM as the engine of a machine.

use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use super::{Host, KvmCpu, KvmError, KvmMachine};
use crate::boot::Entry;
use crate::cpu::CpuEngine;
use crate::interrupt::InterruptLine;
use crate::machine::Platform;
use crate::memory::GuestMemory;

/// A machine of KVM, with everything in the kernel that can be.
pub(crate) struct KvmPlatform {
    host: Host,
    machine: KvmMachine,
    memory: GuestMemory,
}

impl KvmPlatform {
    /// A machine with `memory`, without vCPU.
    ///
    /// # Errors
    /// KVM refused.
    pub(crate) fn new(host: Host, memory: &GuestMemory) -> Result<Self, KvmError> {
        let machine = KvmMachine::create(&host)?;
        Ok(Self { host, machine, memory: memory.clone() })
    }
}

impl Platform for KvmPlatform {
    fn cmdline(&self) -> Result<&'static str, KvmError> {
        self.machine.cmdline()
    }

    fn interrupt_line(&self, irq: u32) -> Result<Arc<dyn InterruptLine>, KvmError> {
        Ok(Arc::new(self.machine.interrupt_line(irq)?))
    }

    fn notify_on_write(&self, address: u64, value: u32, event: &EventFd) -> Result<(), KvmError> {
        self.machine.notify_on_write(address, value, event)
    }

    /// Gives KVM the memory only now: its wait for readers of the memory map would come on top of the probe's waits.
    fn create_cpu(&mut self, entry: Entry, _: bool) -> Result<Box<dyn CpuEngine>, KvmError> {
        self.machine.add_memory(&self.memory)?;
        Ok(Box::new(KvmCpu::create(&self.host, &self.machine, &self.memory, entry)?))
    }
}
