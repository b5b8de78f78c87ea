//! What has become of a case, and how that of one side differs from that of the other.

use kvm_bindings::{kvm_regs, kvm_sregs};

use super::layout::{DATA, Guest, HANDLER_LEN, HANDLERS};
use super::vectors;
use crate::soft::step::Exception;

const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];
/// Exceptions whose frame begins with an error code.
pub(super) const HAVE_ERROR_CODE: [u8; 8] = [8, 10, 11, 12, 13, 14, 17, 21];
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

/// What the guest's kernel finds when the exception at the end has been delivered: its own RIP, RSP and flags, the
/// selectors of CS and SS, and the frame on its stack from the error code on (zero if there is none).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) rip: u64,
    pub(super) rsp: u64,
    pub(super) flags: u64,
    pub(super) cs: u16,
    pub(super) ss: u16,
    pub(super) frame: [u64; 6],
}

impl Arrival {
    /// With these registers in ring 0, and a frame of them in the memory of `guest`.
    pub(super) fn new(guest: &Guest, regs: &kvm_regs, sregs: &kvm_sregs) -> Self {
        let vector = vector(regs.rip);
        let first = u64::from(!HAVE_ERROR_CODE.contains(&vector));
        let mut frame = [0; 6];
        for (index, word) in (0..).zip(&mut frame).skip(usize::from(first != 0)) {
            *word = guest.kernel_word(regs.rsp + 8 * (index - first));
        }
        let (cs, ss) = (sregs.cs.selector, sregs.ss.selector);
        Self { rip: regs.rip, rsp: regs.rsp, flags: regs.rflags, cs, ss, frame }
    }

    /// The vector of the exception.
    pub(super) fn vector(&self) -> u8 {
        vector(self.rip)
    }

    /// Without the flags that do not count.
    fn without(mut self, undefined: u64) -> Self {
        self.flags &= !undefined;
        self.frame[3] &= !undefined;
        self
    }
}

fn vector(handler: u64) -> u8 {
    u8::try_from((handler - HANDLERS) / HANDLER_LEN).expect("one of 256 handlers")
}

/// The state at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) end: End,
    pub(super) rip: u64,
    pub(super) regs: [u64; 16],
    pub(super) flags: u64,
    /// What follows, unless it hangs.
    pub(super) arrival: Option<Arrival>,
    /// Vector registers, if they count.
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

    /// Whether `interpreted` ends otherwise only because KVM or this CPU does. `is_large` says that the operand in memory
    /// is one that may have to be aligned.
    pub(super) fn is_peculiar(&self, interpreted: &Self, is_large: bool) -> bool {
        let (End::Exception(native), End::Exception(interpreted)) = (self.end, interpreted.end) else {
            return false;
        };
        // A protection exception makes a KVM without hardware assistance emulate the instruction, if it knows it.
        let not_emulated =
            native == Exception::INVALID_OPCODE && interpreted == Exception::general_protection(0);
        // The first page is absent, and the second one is none: the CPU's choice.
        let at_the_end = interpreted.address.is_some_and(|address| address >> 4 == (1 << 43) - 1);
        // The CPU sees first that the operand is not aligned; KVM, when it emulates that, that it is no address.
        let misaligned = is_large && interpreted == Exception::general_protection(0);
        not_emulated || (at_the_end || misaligned) && native.vector == STACK_FAULT
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
    let arrivals = [native, interpreted].map(|side| side.arrival.map(|arrival| arrival.without(undefined)));
    // What does not end the same way is not delivered the same way.
    if native.end == interpreted.end && arrivals[0] != arrivals[1] {
        lines.push(format!("in the kernel: native {:x?}, interpreted {:x?}", arrivals[0], arrivals[1]));
    }
    for (number, (a, b)) in native.vectors.iter().zip(&interpreted.vectors).enumerate() {
        if a != b {
            lines.push(format!("{}: native {a:#x}, interpreted {b:#x}", vectors::name(number)));
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
