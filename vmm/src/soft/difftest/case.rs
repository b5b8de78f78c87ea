//! A case: a few bytes of code in ring 3, and everything it starts with.

use std::fmt::{self, Display, Formatter};

use iced_x86::{Decoder, DecoderOptions, Formatter as _, Instruction, IntelFormatter};
use kvm_bindings::kvm_regs;

/// One case. What is not here is in [`super::layout`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Case {
    /// Address of the first instruction.
    pub(super) start: u64,
    pub(super) code: Vec<u8>,
    /// General registers in the order of their numbers.
    pub(super) regs: [u64; 16],
    pub(super) flags: u64,
    /// Addresses of words of data, and what they hold.
    pub(super) memory: Vec<(u64, u64)>,
    /// Vector registers, as in [`super::vectors`], if they count.
    pub(super) vectors: Vec<u128>,
    /// Flags that the manual leaves undefined at the end.
    pub(super) undefined: u64,
}

impl Case {
    /// The instruction at `address`.
    pub(super) fn instruction_at(&self, address: u64) -> Option<Instruction> {
        let decoder = Decoder::with_ip(64, &self.code, self.start, DecoderOptions::NONE);
        decoder.into_iter().find(|instruction| instruction.ip() == address)
    }

    /// The registers as KVM has them.
    pub(super) fn registers(&self) -> kvm_regs {
        let [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15] = self.regs;
        let (rip, rflags) = (self.start, self.flags);
        kvm_regs { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags }
    }

    /// The instructions in words.
    pub(super) fn disassembly(&self) -> String {
        let mut text = String::new();
        let mut formatter = IntelFormatter::new();
        for instruction in &mut Decoder::with_ip(64, &self.code, self.start, DecoderOptions::NONE) {
            if !text.is_empty() {
                text.push_str("; ");
            }
            formatter.format(&instruction, &mut text);
        }
        text
    }
}

/// As it can be pasted to where the named cases are.
impl Display for Case {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "// {}", self.disassembly())?;
        writeln!(f, "Case {{")?;
        writeln!(f, "    start: {:#x},", self.start)?;
        writeln!(f, "    code: vec!{:#04x?},", Line(&self.code))?;
        writeln!(f, "    regs: {:#x?},", Line(&self.regs))?;
        writeln!(f, "    flags: {:#x},", self.flags)?;
        let memory: Vec<_> = self.memory.iter().map(|(at, value)| format!("({at:#x}, {value:#x})")).collect();
        writeln!(f, "    memory: vec![{}],", memory.join(", "))?;
        writeln!(f, "    vectors: vec!{:#x?},", Line(&self.vectors))?;
        writeln!(f, "    undefined: {:#x},", self.undefined)?;
        write!(f, "}}")
    }
}

/// Numbers on one line.
struct Line<'a, T>(&'a [T]);

impl<T: fmt::LowerHex> fmt::Debug for Line<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let numbers: Vec<_> = self.0.iter().map(|number| format!("{number:#x}")).collect();
        write!(f, "[{}]", numbers.join(", "))
    }
}
