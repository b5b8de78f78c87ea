//! What has become of a case, and how that of one side differs from that of the other.

use super::layout::DATA;
use crate::soft::step::Exception;

const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];
const STACK_FAULT: u8 = 12;
const ACCESSED: u64 = 1 << 5;
/// Differences in memory that are worth a line each.
const MAX_BYTES: usize = 8;

/// How the code ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It has come to a HLT outside of it.
    Reached,
    /// An exception.
    Exception(Exception),
    /// The interpreter does not know the instruction.
    Unknown,
    /// It did not end.
    Hang,
}

/// The state at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) end: End,
    pub(super) rip: u64,
    pub(super) regs: [u64; 16],
    pub(super) flags: u64,
    /// XMM registers, if they count.
    pub(super) vectors: Vec<u128>,
    /// The data pages.
    pub(super) data: Vec<u8>,
    /// Page table entries, where they are compared.
    pub(super) pages: Vec<u64>,
}

impl Outcome {
    /// Whether an access of memory has ended it.
    pub(super) fn faults(&self) -> bool {
        matches!(self.end, End::Exception(Exception { vector: 12..=14, .. }))
    }

    /// Whether `interpreted` ends otherwise only because KVM or this CPU does.
    pub(super) fn is_peculiar(&self, interpreted: &Self) -> bool {
        let (End::Exception(native), End::Exception(interpreted)) = (self.end, interpreted.end) else {
            return false;
        };
        // A protection exception makes a KVM without hardware assistance emulate the instruction, if it knows it.
        let not_emulated =
            native == Exception::INVALID_OPCODE && interpreted == Exception::general_protection(0);
        // The first page is absent, and the second one is none: the CPU's choice.
        let at_the_end = interpreted.address.is_some_and(|address| address >> 4 == (1 << 43) - 1);
        not_emulated || at_the_end && native.vector == STACK_FAULT
    }
}

/// What of `interpreted` is not as it is `native`, a line each; `undefined` flags do not count.
pub(super) fn differences(native: &Outcome, interpreted: &Outcome, undefined: u64) -> Vec<String> {
    let mut lines = Vec::new();
    if native.end != interpreted.end {
        lines.push(format!("end: native {:x?}, interpreted {:x?}", native.end, interpreted.end));
    }
    let numbers = [("rip", native.rip, interpreted.rip)];
    let flags = [("flags", native.flags & !undefined, interpreted.flags & !undefined)];
    let registers = NAMES.iter().zip(native.regs).zip(interpreted.regs).map(|((name, a), b)| (*name, a, b));
    for (name, a, b) in numbers.into_iter().chain(flags).chain(registers) {
        if a != b {
            lines.push(format!("{name}: native {a:#x}, interpreted {b:#x}"));
        }
    }
    for (number, (a, b)) in native.vectors.iter().zip(&interpreted.vectors).enumerate() {
        if a != b {
            lines.push(format!("xmm{number}: native {a:#x}, interpreted {b:#x}"));
        }
    }
    // Nearly always the same, and that is quickly seen.
    if native.data != interpreted.data {
        let bytes = (DATA..).zip(native.data.iter().zip(&interpreted.data)).filter(|(_, (a, b))| a != b);
        for (at, (a, b)) in bytes.take(MAX_BYTES) {
            lines.push(format!("byte at {at:#x}: native {a:#04x}, interpreted {b:#04x}"));
        }
    }
    for (index, (a, b)) in native.pages.iter().zip(&interpreted.pages).enumerate() {
        // A CPU may look at pages that it then does not use.
        if a != b && *a != (b | ACCESSED) {
            lines.push(format!("page table entry {index}: native {a:#x}, interpreted {b:#x}"));
        }
    }
    lines
}
