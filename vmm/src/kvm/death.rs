//! What there is to say about a guest of KVM's that died: where, in which mode, and on which instruction.

use kvm_ioctls::VcpuFd;

use super::KvmError;
use crate::cpu::Death;
use crate::memory::GuestMemory;

/// Describes the state of `vcpu`; `bytes` are the instruction's where KVM gave them, else they are read at RIP.
pub(super) fn describe(
    vcpu: &VcpuFd,
    memory: &GuestMemory,
    cause: String,
    bytes: Option<&[u8]>,
) -> Result<Death, KvmError> {
    let regs = vcpu.get_regs().map_err(KvmError::call("read general registers"))?;
    let sregs = vcpu.get_sregs().map_err(KvmError::call("read system registers"))?;
    Ok(Death::describe(cause, memory, regs.rip, &sregs, bytes))
}
