//! The end of a guest that nobody stopped, with what there is to know about it.

use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
use kvm_bindings::kvm_sregs;
use serde::{Deserialize, Serialize};

use super::page_walk;
use crate::memory::GuestMemory;
use crate::symbols::Symbols;

/// Longest instruction.
const MAX_INSTRUCTION: usize = 15;

/// The end of a guest, with what there is to know about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// What happened.
    pub cause: String,
    /// Instruction pointer.
    pub rip: u64,
    /// CPU mode and privilege level, as text.
    pub mode: String,
    /// The bytes at the instruction pointer, as far as they can be read.
    pub bytes: Vec<u8>,
    /// Those bytes as an instruction, where they are one.
    pub instruction: Option<String>,
    /// The kernel's name for the place, where symbols were given.
    pub symbol: Option<String>,
}

impl Death {
    /// Describes a guest whose CPU is at `rip`; `bytes` are the instruction's where they are known, else they are read
    /// there.
    pub(crate) fn describe(
        cause: String,
        memory: &GuestMemory,
        rip: u64,
        sregs: &kvm_sregs,
        bytes: Option<&[u8]>,
    ) -> Self {
        let bytes = bytes.map_or_else(|| bytes_at(memory, sregs, rip), <[u8]>::to_vec);
        let (mode, bitness) = mode(sregs);
        let instruction = disassemble(&bytes, bitness, rip);
        Self { cause, rip, mode, bytes, instruction, symbol: None }
    }

    /// Looks the place up.
    pub(crate) fn name_place(&mut self, symbols: &Symbols) {
        self.symbol = symbols.find(self.rip).map(|(name, offset)| format!("{name}+{offset:#x}"));
    }
}

impl std::fmt::Display for Death {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cause, rip, mode, bytes, instruction, symbol } = self;
        write!(f, "{cause} at {rip:#x}")?;
        if let Some(symbol) = symbol {
            write!(f, " in {symbol}")?;
        }
        write!(f, " ({mode})")?;
        if !bytes.is_empty() {
            write!(f, ", bytes {bytes:02x?}")?;
        }
        match instruction {
            Some(instruction) => write!(f, ": {instruction}"),
            None => Ok(()),
        }
    }
}

fn bytes_at(memory: &GuestMemory, sregs: &kvm_sregs, rip: u64) -> Vec<u8> {
    let mut bytes = vec![0; MAX_INSTRUCTION];
    let linear = sregs.cs.base.wrapping_add(rip);
    let len = page_walk::read(memory, sregs.into(), linear, &mut bytes);
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
    use expect_test::expect;

    use super::*;
    use crate::cpu::CpuError;

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

    #[test]
    fn a_death_says_what_where_and_in_which_mode() {
        let death = Death {
            cause: "KVM cannot emulate an instruction".into(),
            rip: 0x100_0000,
            mode: "64-bit mode, ring 0".into(),
            bytes: vec![0x0f, 0xae],
            instruction: Some("fxsave [rdi]".into()),
            symbol: Some("fpu__init_cpu+0x20".into()),
        };
        expect!["the guest died: KVM cannot emulate an instruction at 0x1000000 in fpu__init_cpu+0x20 (64-bit mode, ring 0), bytes [0f, ae]: fxsave [rdi]"]
            .assert_eq(&CpuError::Died(Box::new(death)).to_string());
    }
}
