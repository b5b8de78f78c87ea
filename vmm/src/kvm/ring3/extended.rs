//! The state of FPU and vector units, which lives in KVM between runs.

use kvm_bindings::kvm_xsave;
use kvm_ioctls::VcpuFd;

use super::super::KvmError;

/// An XSAVE area in standard format, as far as KVM gives it without being asked for more.
pub(crate) type ExtendedState = [u8; 4096];

/// Reads the state.
pub(super) fn read(vcpu: &VcpuFd) -> Result<Box<ExtendedState>, KvmError> {
    let xsave = vcpu.get_xsave().map_err(KvmError::call("read the extended state"))?;
    let mut state = Box::new([0; 4096]);
    for (to, from) in state.as_chunks_mut().0.iter_mut().zip(xsave.region) {
        *to = from.to_le_bytes();
    }
    Ok(state)
}

/// Sets the state. KVM refuses one that XRSTOR would.
pub(super) fn write(vcpu: &VcpuFd, state: &ExtendedState) -> Result<(), KvmError> {
    let mut xsave = kvm_xsave::default();
    for (to, from) in xsave.region.iter_mut().zip(state.as_chunks().0) {
        *to = u32::from_le_bytes(*from);
    }
    // SAFETY: KVM reads past this structure only for state that a process has to ask the host for (AMX), which we do
    // not.
    let result = unsafe { vcpu.set_xsave(&xsave) };
    result.map_err(KvmError::call("set the extended state"))
}

/// Sets XCR0. KVM refuses a value that XSETBV would.
pub(super) fn write_xcr0(vcpu: &VcpuFd, value: u64) -> Result<(), KvmError> {
    let mut xcrs = vcpu.get_xcrs().map_err(KvmError::call("read XCR0"))?;
    if let Some(entry) = xcrs.xcrs.iter_mut().find(|entry| entry.xcr == 0) {
        entry.value = value;
    }
    vcpu.set_xcrs(&xcrs).map_err(KvmError::call("set XCR0"))
}
