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
