//! Runs 32-bit code in this process: by a far return to the kernel's 32-bit code segment.

use std::arch::asm;
use std::io;

use super::mapping::{Access, Mapping, PAGE};

/// Linux's selectors for programs: 32-bit code, data, 64-bit code.
const CODE_32: u64 = 0x23;
const DATA: u16 = 0x2b;
const CODE_64: u16 = 0x33;

/// Offsets in the page: where the 64-bit side goes on, its stack pointer, and what the code has to say.
const LANDING: usize = 0x800;
const SAVED_STACK: usize = 0x810;
const RESULT: usize = 0x818;

/// Calls 32-bit code with a stack below 4 GiB and answers EAX in the end.
///
/// # Errors
/// No memory is left below 4 GiB.
pub(crate) fn call(code: &[u8]) -> io::Result<u32> {
    let page = Mapping::low(2)?;
    page.protect(Access::Execute)?;
    let at = |offset: usize| u32::try_from(page.address() + offset).expect("below 4 GiB");
    // mov [RESULT], eax; jmp CODE_64:LANDING
    let mut bytes = code.to_vec();
    bytes.push(0xa3);
    bytes.extend(at(RESULT).to_le_bytes());
    bytes.push(0xea);
    bytes.extend(at(LANDING).to_le_bytes());
    bytes.extend(CODE_64.to_le_bytes());
    assert!(bytes.len() < LANDING, "room for the code");
    // In 64-bit mode again: mov rsp, [rip + 9], which is SAVED_STACK; ret
    let landing = [0x48, 0x8b, 0x25, 9, 0, 0, 0, 0xc3];
    bytes
        .iter()
        .zip(0..)
        .chain(landing.iter().zip(LANDING..))
        .for_each(|(byte, place)| page.write(place, *byte));
    // SAFETY: leaves for the code in the page and comes back by the return address on this stack, with the registers
    // that the compiler keeps restored; the data segments are those of a 64-bit program again.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "lea rax, [rip + 2f]",
            "push rax",
            "mov [rdi], rsp",
            "mov ds, esi",
            "mov es, esi",
            "mov rsp, rdx",
            "push rcx",
            "push r8",
            "retfq",
            "2:",
            "xor eax, eax",
            "mov ds, eax",
            "mov es, eax",
            "pop rbp",
            "pop rbx",
            in("rdi") page.address() + SAVED_STACK,
            in("esi") u32::from(DATA),
            in("rdx") page.address() + 2 * PAGE - 64,
            in("rcx") CODE_32,
            in("r8") page.address(),
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
            clobber_abi("sysv64"),
        );
    }
    let result: [u8; 4] = std::array::from_fn(|i| page.read(RESULT + i));
    Ok(u32::from_le_bytes(result))
}
