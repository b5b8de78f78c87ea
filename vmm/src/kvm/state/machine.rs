//! What the vCPUs share: PIC, I/O APIC, PIT and the paravirtual clock.

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_clock_data, kvm_irqchip,
    kvm_pit_state2,
};
use kvm_ioctls::VmFd;
use serde::{Deserialize, Serialize};

use crate::cpu::Saved;
use crate::kvm::KvmError;

const WHAT: &str = "the interrupt controllers";
const CHIPS: [u32; 3] = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC];

/// The state of a machine without its vCPUs and memory.
#[derive(Serialize, Deserialize)]
pub(in crate::kvm) struct MachineState {
    chips: [kvm_irqchip; 3],
    pit: kvm_pit_state2,
    clock: kvm_clock_data,
}

impl MachineState {
    /// Reads the state of `vm`, whose vCPUs are paused.
    pub(in crate::kvm) fn get(vm: &VmFd) -> Result<Self, KvmError> {
        let mut chips = CHIPS.map(|chip_id| kvm_irqchip { chip_id, ..Default::default() });
        for chip in &mut chips {
            vm.get_irqchip(chip).map_err(KvmError::call("read an interrupt controller"))?;
        }
        let pit = vm.get_pit2().map_err(KvmError::call("read the timer"))?;
        let clock = vm.get_clock().map_err(KvmError::call("read the clock"))?;
        Ok(Self { chips, pit, clock })
    }

    /// Puts the state into `vm`, whose vCPUs have not run yet; the clock has gone on for `elapsed_ns`.
    pub(in crate::kvm) fn set(&self, vm: &VmFd, elapsed_ns: u64) -> Result<(), KvmError> {
        for (chip, chip_id) in self.chips.iter().zip(CHIPS) {
            vm.set_irqchip(&kvm_irqchip { chip_id, ..*chip })
                .map_err(KvmError::call("set an interrupt controller"))?;
        }
        vm.set_pit2(&self.pit).map_err(KvmError::call("set the timer"))?;
        let clock =
            kvm_clock_data { clock: self.clock.clock.saturating_add(elapsed_ns), ..Default::default() };
        vm.set_clock(&clock).map_err(KvmError::call("set the clock"))
    }

    /// As JSON.
    pub(in crate::kvm) fn write(&self) -> Result<Saved, KvmError> {
        super::write(WHAT, self)
    }

    /// From JSON.
    pub(in crate::kvm) fn parse(saved: &Saved) -> Result<Self, KvmError> {
        super::parse(WHAT, saved)
    }
}
