//! The software engine's side of a machine: interrupt controllers in user space, and ring 3 under KVM.

use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use super::attention::Attention;
use super::engine::SoftCpu;
use super::interrupts::Controllers;
use crate::boot::Entry;
use crate::cpu::cpuid::Place;
use crate::cpu::{CpuEngine, Saved};
use crate::interrupt::InterruptLine;
use crate::kvm::{Host, KvmError, KvmStats, Ring3};
use crate::machine::{Platform, Start, Statistics};
use crate::memory::GuestMemory;

/// For the guest's kernel:
/// - `mitigations=off`: none of it runs speculatively, so it need not protect itself from that.
/// - `noreplace-smp`: with one CPU it would patch some 8,000 `lock` prefixes away, which cost nothing here.
/// - `percpu_alloc=page`: per-CPU memory in small pages, of which 42 need clearing and scanning instead of 512. What
///   one large page saves a TLB of hardware, it does not save ours.
/// - `rodata=off`: the kernel's own pages are not split and protected one by one. It loses a protection against its own
///   bugs; the boundary of the VM is where it was.
pub(crate) const CMDLINE: &str = "mitigations=off noreplace-smp percpu_alloc=page rodata=off";

/// A machine whose kernel is interpreted.
pub(crate) struct SoftPlatform {
    memory: GuestMemory,
    controllers: Arc<Controllers>,
    has_pic: bool,
    attention: Arc<Attention>,
    cpuid: kvm_bindings::CpuId,
    /// Until the CPU takes it.
    ring3: Option<Ring3>,
    stats: Option<KvmStats>,
}

impl SoftPlatform {
    /// A machine with `memory`, with or without a PIC beside the I/O APIC.
    ///
    /// # Errors
    /// KVM, which runs ring 3, refused.
    pub(crate) fn new(host: &Host, memory: &GuestMemory, has_pic: bool) -> Result<Self, KvmError> {
        let ring3 = Ring3::create(host, memory, &host.cpuid(Place::ALONE)?)?;
        let (cpuid, stats) = (ring3.cpuid()?, ring3.stats());
        let attention = Arc::new(Attention::new(ring3.kicker()));
        let notified = attention.clone();
        let notify = move || {
            if let Err(error) = notified.request() {
                tracing::error!(%error, "cannot tell the CPU of an interrupt");
            }
        };
        let controllers = Controllers::new(Arc::new(notify), ring3.tsc_khz().into(), has_pic);
        Ok(Self { memory: memory.clone(), controllers, has_pic, attention, cpuid, ring3: Some(ring3), stats })
    }
}

impl Platform for SoftPlatform {
    fn cmdline(&self) -> Result<&'static str, KvmError> {
        Ok(CMDLINE)
    }

    fn has_pic(&self) -> bool {
        self.has_pic
    }

    fn interrupt_line(&self, irq: u32) -> Result<Arc<dyn InterruptLine>, KvmError> {
        Ok(self.controllers.line(irq))
    }

    /// The device notices by itself: every write comes by here.
    fn notify_on_write(&self, _: u64, _: u32, _: &EventFd) -> Result<(), KvmError> {
        Ok(())
    }

    fn create_cpus(
        &mut self,
        start: Start<'_>,
        vcpus: u8,
        profile: bool,
    ) -> Result<Vec<Box<dyn CpuEngine>>, KvmError> {
        let ring3 = self.ring3.take().filter(|_| vcpus == 1).ok_or(KvmError::Vcpus(vcpus))?;
        let entry = match start {
            Start::Boot(Entry::Pvh { .. }) => return Err(KvmError::Entry),
            Start::Boot(entry) => Some(entry),
            Start::Restore { .. } => None,
        };
        let mut cpu = SoftCpu::new(
            &self.memory,
            entry,
            &self.cpuid,
            ring3,
            self.controllers.clone(),
            self.attention.clone(),
        )?;
        if let Start::Restore { platform, cpus: [saved], .. } = start {
            self.controllers.restore(platform)?;
            cpu.restore(saved)?;
        }
        if profile {
            cpu.start_profile();
        }
        Ok(vec![Box::new(cpu)])
    }

    fn statistics(&self) -> Vec<Statistics> {
        self.stats.iter().map(KvmStats::read).collect()
    }

    fn save(&self) -> Result<Saved, KvmError> {
        self.controllers.save()
    }
}
