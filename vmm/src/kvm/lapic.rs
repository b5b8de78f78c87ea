//! The local APIC's two local inputs as firmware leaves them: LINT0 takes the PIC's interrupts, LINT1 is the NMI.
//! Intel SDM volume 3A, section 11.5.1.

use kvm_bindings::kvm_lapic_state;
use kvm_ioctls::VcpuFd;

use super::KvmError;

const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
/// Delivery modes, bits 10:8 of an entry of the local vector table.
const MODE_NMI: u32 = 4;
const MODE_EXT_INT: u32 = 7;

/// Sets both inputs.
pub(super) fn set_local_inputs(vcpu: &VcpuFd) -> Result<(), KvmError> {
    let mut lapic = vcpu.get_lapic().map_err(KvmError::call("read the local APIC"))?;
    set_mode(&mut lapic, LVT_LINT0, MODE_EXT_INT);
    set_mode(&mut lapic, LVT_LINT1, MODE_NMI);
    vcpu.set_lapic(&lapic).map_err(KvmError::call("set the local APIC"))
}

fn set_mode(lapic: &mut kvm_lapic_state, register: usize, mode: u32) {
    let Some(bytes) = lapic.regs.get_mut(register..register + 4) else { return };
    let mut value = 0;
    for (byte, shift) in bytes.iter().zip([0, 8, 16, 24]) {
        value |= u32::from(byte.cast_unsigned()) << shift;
    }
    value = (value & !0x700) | mode << 8;
    for (byte, new) in bytes.iter_mut().zip(value.to_le_bytes()) {
        *byte = new.cast_signed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_delivery_mode_changes() {
        let mut lapic = kvm_lapic_state::default();
        lapic.regs[LVT_LINT0 + 2] = 1; // masked
        set_mode(&mut lapic, LVT_LINT0, MODE_EXT_INT);
        assert_eq!(lapic.regs[LVT_LINT0..LVT_LINT0 + 4], [0, 7, 1, 0]);
    }
}
