//! KVM as the engine of a machine.

use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use super::state::MachineState;
use super::{Host, KvmCpu, KvmError, KvmMachine, KvmStats};
use crate::cpu::cpuid::Place;
use crate::cpu::{CpuEngine, Kick, Saved};
use crate::interrupt::InterruptLine;
use crate::machine::{Platform, Start, Statistics};
use crate::memory::GuestMemory;

/// A machine of KVM, with everything in the kernel that can be.
pub(crate) struct KvmPlatform {
    host: Host,
    machine: KvmMachine,
    memory: GuestMemory,
    /// Those of the vCPUs, once there are some.
    kickers: Vec<Arc<dyn Kick>>,
    stats: Vec<KvmStats>,
}

impl KvmPlatform {
    /// A machine with `memory`, without vCPU.
    ///
    /// # Errors
    /// KVM refused.
    pub(crate) fn new(host: Host, memory: &GuestMemory) -> Result<Self, KvmError> {
        let machine = KvmMachine::create(&host)?;
        Ok(Self { host, machine, memory: memory.clone(), kickers: Vec::new(), stats: Vec::new() })
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
    fn create_cpus(
        &mut self,
        start: Start<'_>,
        vcpus: u8,
        _: bool,
    ) -> Result<Vec<Box<dyn CpuEngine>>, KvmError> {
        self.machine.add_memory(&self.memory)?;
        let cpus = u32::from(vcpus);
        let create = |id| KvmCpu::create(&self.host, &self.machine, &self.memory, Place { id, cpus });
        let cpus = (0..cpus).map(create).collect::<Result<Vec<_>, _>>()?;
        self.kickers = cpus.iter().map(CpuEngine::kicker).collect();
        let stats = cpus.iter().zip(0..).filter_map(|(cpu, index)| cpu.stats(index));
        self.stats =
            KvmStats::open(&*self.machine.fd, "kvm_vm".to_owned()).into_iter().chain(stats).collect();
        match start {
            Start::Boot(entry) => {
                for (cpu, entry) in
                    cpus.iter().zip(std::iter::once(Some(entry)).chain(std::iter::repeat(None)))
                {
                    cpu.start_at(entry)?;
                }
            }
            Start::Restore { platform, cpus: saved, elapsed_ns } => {
                MachineState::parse(platform)?.set(&self.machine.fd, elapsed_ns)?;
                for (cpu, state) in cpus.iter().zip(saved) {
                    cpu.restore(state, elapsed_ns)?;
                }
            }
        }
        Ok(cpus.into_iter().map(|cpu| Box::new(cpu) as Box<dyn CpuEngine>).collect())
    }

    fn attend(&self) {
        self.machine.attend(&self.kickers);
    }

    fn statistics(&self) -> Vec<Statistics> {
        self.stats.iter().map(KvmStats::read).collect()
    }

    fn save(&self) -> Result<Saved, KvmError> {
        MachineState::get(&self.machine.fd)?.write()
    }
}
