//! The virtual machine as KVM keeps it: memory slots, interrupt controllers, timer, and the wiring of eventfds.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config, kvm_userspace_memory_region};
use kvm_ioctls::{IoEventAddress, VmFd};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::without_hardware::{self, Probe, SyscallWatch};
use super::{Host, KvmError};
use crate::cpu::Kick;
use crate::interrupt::EventFdLine;
use crate::memory::{GuestMemory, layout};

/// A virtual machine without memory or vCPUs, until they are added.
#[derive(Debug)]
pub(crate) struct KvmMachine {
    pub(super) fd: Arc<VmFd>,
    /// Has something to watch only where the repairs are needed.
    pub(super) watch: Arc<SyscallWatch>,
    probe: Probe,
    msrs: Arc<[u32]>,
}

impl KvmMachine {
    /// Makes a machine with local APIC, I/O APIC, PIC and PIT in the kernel, and begins to find out what kind of KVM
    /// this is.
    ///
    /// # Errors
    /// KVM refused.
    pub(crate) fn create(host: &Host) -> Result<Self, KvmError> {
        // First, as it takes longest.
        let probe = Probe::start(host)?;
        let fd = Arc::new(create_vm(host)?);
        fd.create_irq_chip().map_err(KvmError::call("create the interrupt controllers"))?;
        // The dummy speaker answers port 0x61, which kernels read to calibrate by the PIT.
        let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        fd.create_pit2(pit).map_err(KvmError::call("create the timer"))?;
        Ok(Self { fd, watch: Arc::default(), probe, msrs: host.saved_msrs()? })
    }

    /// Whether kernel-mode code of the guest is emulated, so that the repairs are needed. Waits for the probe the
    /// first time.
    ///
    /// # Errors
    /// KVM did not even run the probe.
    pub(super) fn needs_repairs(&self) -> Result<bool, KvmError> {
        self.probe.result()
    }

    /// What takes KVM long and no guest must wait for; `vcpus` run by now.
    pub(super) fn attend(&self, vcpus: &[Arc<dyn Kick>]) {
        if self.probe.result().unwrap_or(false) {
            self.watch.set_up(&self.fd);
            for vcpu in vcpus {
                if let Err(error) = vcpu.kick() {
                    tracing::error!(%error, "cannot kick a vCPU");
                }
            }
        }
        self.probe.take_down();
    }

    /// The model-specific registers that a snapshot keeps.
    pub(super) fn saved_msrs(&self) -> Arc<[u32]> {
        self.msrs.clone()
    }

    /// What a guest's kernel command line needs on this host, beyond the usual.
    ///
    /// # Errors
    /// As for finding out what kind of host it is.
    pub(crate) fn cmdline(&self) -> Result<&'static str, KvmError> {
        Ok(if self.needs_repairs()? { without_hardware::CMDLINE } else { "" })
    }

    /// Makes every region of `memory` RAM of the machine.
    ///
    /// # Errors
    /// KVM refused.
    pub(crate) fn add_memory(&self, memory: &GuestMemory) -> Result<(), KvmError> {
        for (slot, region) in (0..).zip(memory.iter()) {
            let host_address = region
                .get_host_address(MemoryRegionAddress(0))
                .map_err(|error| KvmError::call("find guest memory")(std::io::Error::other(error)))?;
            let slot = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: region.start_addr().0,
                memory_size: region.len(),
                userspace_addr: host_address.expose_provenance() as u64,
            };
            // SAFETY: the region maps `memory_size` bytes at this address. The guest reaches them only while its
            // vCPU runs, and the vCPU holds a clone of `memory` (`KvmCpu`).
            unsafe { self.fd.set_user_memory_region(slot) }.map_err(KvmError::call("add guest memory"))?;
        }
        Ok(())
    }

    /// An interrupt line that raises input `irq` of the interrupt controllers.
    ///
    /// # Errors
    /// No descriptors are left, or KVM refused.
    pub(crate) fn interrupt_line(&self, irq: u32) -> Result<EventFdLine, KvmError> {
        let event =
            EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map_err(KvmError::call("get an interrupt's eventfd"))?;
        self.fd.register_irqfd(&event, irq).map_err(KvmError::call("wire an interrupt"))?;
        Ok(EventFdLine::new(event))
    }

    /// Lets a guest's write of `value` (four bytes) at `address` signal `event` instead of leaving the guest.
    ///
    /// # Errors
    /// KVM refused.
    pub(crate) fn notify_on_write(&self, address: u64, value: u32, event: &EventFd) -> Result<(), KvmError> {
        self.fd
            .register_ioevent(event, &IoEventAddress::Mmio(address), value)
            .map_err(KvmError::call("wire a queue notification"))
    }
}

/// An empty virtual machine, its pages for old Intel CPUs in place.
pub(super) fn create_vm(host: &Host) -> Result<VmFd, KvmError> {
    let fd = host.kvm.create_vm().map_err(KvmError::call("create a virtual machine"))?;
    fd.set_identity_map_address(layout::KVM_IDENTITY_MAP)
        .map_err(KvmError::call("place its identity map"))?;
    let tss = usize::try_from(layout::KVM_TSS).unwrap_or_default();
    fd.set_tss_address(tss).map_err(KvmError::call("place its TSS"))?;
    Ok(fd)
}

/// A descriptor of the vCPU's, borrowed for as long as the vCPU lives.
pub(super) fn borrow_fd(fd: &impl AsRawFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open as long as `fd`, which the result borrows.
    unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) }
}
