//! What there is to say about a guest that died: where, in which mode, and on which instruction.

use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
use kvm_bindings::kvm_sregs;
use kvm_ioctls::VcpuFd;

use super::KvmError;
use crate::cpu::Death;
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
    Ok(Death { cause, rip: regs.rip, mode, bytes, instruction })
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

/// The mode as text, and the width of code in bits.
fn mode(sregs: &kvm_sregs) -> (String, u32) {
    let (name, bitness) = match sregs {
        s if s.cr0 & 1 == 0 => ("real mode", 16),
        s if s.cs.l == 1 => ("64-bit mode", 64),
        s if s.cs.db == 1 => ("32-bit mode", 32),
        _ => ("16-bit protected mode", 16),
    };
    (format!("{name}, ring {}", sregs.ss.dpl), bitness)
}

/// The first instruction of `bytes` as text.
fn disassemble(bytes: &[u8], bitness: u32, rip: u64) -> Option<String> {
    let mut decoder = Decoder::with_ip(bitness, bytes, rip, DecoderOptions::NONE);
    if !decoder.can_decode() {
        return None;
    }
    let instruction = decoder.decode();
    let mut text = String::new();
    IntelFormatter::new().format(&instruction, &mut text);
    (!instruction.is_invalid()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_written_out_in_the_width_of_the_mode() {
        assert_eq!(disassemble(&[0x0f, 0x01, 0xca], 64, 0).as_deref(), Some("clac"));
        assert_eq!(disassemble(&[0x48, 0x89, 0xc3], 64, 0).as_deref(), Some("mov rbx,rax"));
        assert_eq!(disassemble(&[], 64, 0), None);
        assert_eq!(disassemble(&[0x06], 64, 0), None);
    }

    #[test]
    fn the_mode_follows_from_the_registers() {
        let mut sregs = kvm_sregs::default();
        assert_eq!(mode(&sregs), ("real mode, ring 0".to_owned(), 16));
        sregs.cr0 = 1;
        sregs.cs.db = 1;
        assert_eq!(mode(&sregs).1, 32);
        (sregs.cs.db, sregs.cs.l, sregs.ss.dpl) = (0, 1, 3);
        assert_eq!(mode(&sregs), ("64-bit mode, ring 3".to_owned(), 64));
    }
}
