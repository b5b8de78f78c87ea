//! Reading and writing model-specific registers of a vCPU.

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

use super::KvmError;
use crate::cpu::msrs::BOOT;

/// Sets those that firmware would have set before a kernel starts.
pub(super) fn set_boot_msrs(vcpu: &VcpuFd) -> Result<(), KvmError> {
    write(vcpu, &BOOT, "set the boot MSRs")
}

/// Writes registers, all or an error that says `what` was attempted.
pub(super) fn write(vcpu: &VcpuFd, values: &[(u32, u64)], what: &'static str) -> Result<(), KvmError> {
    let entry = |&(index, data)| kvm_msr_entry { index, data, ..Default::default() };
    let entries: Vec<_> = values.iter().map(entry).collect();
    let msrs = Msrs::from_entries(&entries)
        .map_err(|e| KvmError::call(what)(std::io::Error::other(format!("{e:?}"))))?;
    let written = vcpu.set_msrs(&msrs).map_err(KvmError::call(what))?;
    match values.get(written) {
        None => Ok(()),
        Some((index, _)) => Err(KvmError::Lacks { what: format!("the model-specific register {index:#x}") }),
    }
}

/// Reads registers.
pub(super) fn read<const N: usize>(
    vcpu: &VcpuFd,
    indices: [u32; N],
    what: &'static str,
) -> Result<[u64; N], KvmError> {
    let entries = indices.map(|index| kvm_msr_entry { index, ..Default::default() });
    let mut msrs = Msrs::from_entries(&entries)
        .map_err(|e| KvmError::call(what)(std::io::Error::other(format!("{e:?}"))))?;
    let count = vcpu.get_msrs(&mut msrs).map_err(KvmError::call(what))?;
    if let Some(index) = indices.get(count) {
        return Err(KvmError::Lacks { what: format!("the model-specific register {index:#x}") });
    }
    let mut values = [0; N];
    for (value, entry) in values.iter_mut().zip(msrs.as_slice()) {
        *value = entry.data;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::super::{Host, machine};
    use super::*;
    use crate::cpu::cpuid::Place;

    #[test]
    fn registers_are_as_firmware_leaves_them() {
        let Ok(host) = Host::open() else {
            eprintln!("skipped: no usable /dev/kvm");
            return;
        };
        let vm = machine::create_vm(&host).unwrap();
        vm.create_irq_chip().unwrap();
        for id in 0..2 {
            let vcpu = vm.create_vcpu(id).unwrap();
            let place = Place { id: u32::try_from(id).unwrap(), cpus: 2 };
            vcpu.set_cpuid2(&host.cpuid(place).unwrap()).unwrap();
            set_boot_msrs(&vcpu).unwrap();
            // MISC_ENABLE, PAT, MTRR_DEF_TYPE; TSC_ADJUST, APIC_BASE, SYSENTER_CS, LSTAR.
            let [misc, pat, mtrr, adjust, apic, sysenter, lstar] =
                read(&vcpu, [0x1a0, 0x277, 0x2ff, 0x3b, 0x1b, 0x174, 0xc000_0082], "read registers").unwrap();
            assert_eq!((misc & 1, pat, mtrr), (1, 0x0007_0406_0007_0406, 0x806));
            assert_eq!((adjust, sysenter, lstar), (0, 0, 0));
            // At its usual address, on; only the first processor is the one that boots.
            assert_eq!(apic, 0xfee0_0800 | if id == 0 { 1 << 8 } else { 0 });
        }
    }
}
