//! Cases that once ended differently.

use super::case::Case;
use super::layout::DATA;

/// Where the code of a case is.
const START: u64 = 0x40_0100;
const STACK: u64 = DATA + 0x800;
/// The last page that can be written, before one that can only be read.
const BEFORE_READ_ONLY: u64 = DATA + 0x2000;
/// Not an address.
const NOT_CANONICAL: u64 = 0x1234_5678_9abc_def0;

/// Names and cases.
pub(super) fn cases() -> Vec<(&'static str, Case)> {
    vec![
        (
            "a modification that straddles pages faults at the second page's first byte",
            // add [rcx], rdx
            case(&[0x48, 0x01, 0x11], &[(1, BEFORE_READ_ONLY - 3), (2, 5)]),
        ),
        (
            "an address that is not canonical is a stack fault by the frame pointer",
            // mov rax, [rbp+8]
            case(&[0x48, 0x8b, 0x45, 0x08], &[(5, NOT_CANONICAL)]),
        ),
        (
            "an address that is not canonical is a protection fault by other registers, also with the frame pointer as index",
            // mov rax, [rcx+rbp]
            case(&[0x48, 0x8b, 0x04, 0x29], &[(1, NOT_CANONICAL), (5, 0)]),
        ),
        (
            "a bit string by the stack pointer is far from it and still a stack fault",
            // bts [rsp], r14
            case(&[0x4c, 0x0f, 0xab, 0x34, 0x24], &[(14, 0x7fff_ffff_ffff_ff00)]),
        ),
        (
            "a jump to an address that is not canonical faults itself",
            // jmp rcx
            case(&[0xff, 0xe1], &[(1, NOT_CANONICAL)]),
        ),
        (
            "a call to an address that is not canonical pushes nothing",
            // call rcx
            case(&[0xff, 0xd1], &[(1, NOT_CANONICAL)]),
        ),
        (
            "a call faults at the stack before it looks at its target",
            // call rcx
            case(&[0xff, 0xd1], &[(1, NOT_CANONICAL), (4, BEFORE_READ_ONLY + 0x100)]),
        ),
        (
            "a return to an address that is not canonical leaves the stack pointer",
            Case { memory: vec![(STACK, NOT_CANONICAL)], ..case(&[0xc3], &[]) },
        ),
        (
            "a 16-bit push moves the stack pointer by two",
            // push ax
            case(&[0x66, 0x50], &[(0, 0x1234_5678)]),
        ),
        (
            "a 16-bit pop into the stack pointer replaces its low half",
            // pop sp
            case(&[0x66, 0x5c], &[]),
        ),
    ]
}

/// `code` with some registers.
fn case(code: &[u8], registers: &[(usize, u64)]) -> Case {
    let mut regs = [0; 16];
    regs[4] = STACK;
    for (number, value) in registers {
        regs[*number] = *value;
    }
    Case {
        start: START,
        code: code.to_vec(),
        regs,
        flags: 0x202,
        memory: Vec::new(),
        vectors: Vec::new(),
        undefined: 0,
    }
}
