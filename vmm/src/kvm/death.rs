//! What there is to say about a guest that died: where, in which mode, and on which instruction.

use kvm_bindings::kvm_sregs;
use kvm_ioctls::VcpuFd;

use super::KvmError;
use crate::cpu::Death;
use crate::cpu::death::{disassemble, mode};
use crate::cpu::page_walk::{self, Paging};
use crate::memory::GuestMemory;

/// Longest instruction.
const MAX_INSTRUCTION: usize = 15;

/// Describes the state of `vcpu`; `bytes` are the instruction's where KVM gave them, else they are read at RIP.
pub(super) fn describe(
    vcpu: &VcpuFd,
    memory: &GuestMemory,
    cause: String,
    bytes: Option<&[u8]>,
) -> Result<Death, KvmError> {
    let regs = vcpu.get_regs().map_err(KvmError::call("read general registers"))?;
    let sregs = vcpu.get_sregs().map_err(KvmError::call("read system registers"))?;
    let bytes = bytes.map_or_else(|| bytes_at(memory, &sregs, regs.rip), <[u8]>::to_vec);
    let (mode, bitness) = mode(&sregs);
    let instruction = disassemble(&bytes, bitness, regs.rip);
    Ok(Death { cause, rip: regs.rip, mode, bytes, instruction, symbol: None })
}

/// The paging registers among `sregs`.
pub(super) fn paging(sregs: &kvm_sregs) -> Paging {
    Paging { cr0: sregs.cr0, cr3: sregs.cr3, cr4: sregs.cr4, efer: sregs.efer }
}

fn bytes_at(memory: &GuestMemory, sregs: &kvm_sregs, rip: u64) -> Vec<u8> {
    let mut bytes = vec![0; MAX_INSTRUCTION];
    let linear = sregs.cs.base.wrapping_add(rip);
    let len = page_walk::read(memory, paging(sregs), linear, &mut bytes);
    bytes.truncate(len);
    bytes
}
