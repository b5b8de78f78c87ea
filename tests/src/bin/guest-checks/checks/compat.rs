//! 32-bit code runs, in a process of its own and within a 64-bit one.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::{Outcome, at, expect};
use crate::sys::compat;

/// `mov eax, 20 (getpid); int 0x80`, between instructions that mean something else in 64-bit mode.
const GETPID: [u8; 14] = [0x60, 0x31, 0xc0, 0x40, 0x48, 0x61, 0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0x90];

/// In this process, many times.
pub(crate) fn calls_the_kernel_from_32_bit_code() -> Outcome {
    for round in 0..50 {
        let found = compat::call(&GETPID).map_err(at("mmap"))?;
        expect(found == std::process::id(), || format!("round {round}: process {found}"))?;
        if round % 8 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    Ok(())
}

/// A loop in which the CPU is taken away. A short one: a KVM without hardware assistance emulates 32-bit code.
pub(crate) fn loops_in_32_bit_code() -> Outcome {
    // mov ecx, 200000; dec ecx; jnz -3; mov eax, ecx
    let looped = [0xb9, 0x40, 0x0d, 0x03, 0x00, 0x49, 0x75, 0xfd, 0x89, 0xc8];
    let found = compat::call(&looped).map_err(at("mmap"))?;
    expect(found == 0, || format!("{found} at the end of a loop"))
}

/// A program that says `32` and ends with 42.
pub(crate) fn runs_a_32_bit_program() -> Outcome {
    const AT: u32 = 0x0804_8000;
    const HEAD: u32 = 84;
    // mov eax, 4 (write); mov ebx, 1; mov ecx, TEXT; mov edx, 2; int 0x80; mov eax, 1 (exit); mov ebx, 42; int 0x80
    let mut code = vec![0xb8, 4, 0, 0, 0, 0xbb, 1, 0, 0, 0, 0xb9];
    code.extend((AT + HEAD + 34).to_le_bytes());
    code.extend([0xba, 2, 0, 0, 0, 0xcd, 0x80, 0xb8, 1, 0, 0, 0, 0xbb, 42, 0, 0, 0, 0xcd, 0x80]);
    code.extend(b"32");
    let len = HEAD + u32::try_from(code.len()).map_err(at("length"))?;
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // ET_EXEC, EM_386
    elf.extend([2u16, 3].map(u16::to_le_bytes).concat());
    for word in [1, AT + HEAD, 52, 0, 0] {
        elf.extend(u32::to_le_bytes(word));
    }
    elf.extend([52u16, 32, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    for word in [1, 0, AT, AT, len, len, 5, 0x1000] {
        elf.extend(u32::to_le_bytes(word));
    }
    elf.extend(code);
    let path = "/tmp/program-32";
    std::fs::write(path, elf).map_err(at("write the program"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).map_err(at("chmod"))?;
    for round in 0..5 {
        let output = Command::new(path).output().map_err(at("start the program"))?;
        expect(output.stdout == b"32" && output.status.code() == Some(42), || {
            format!("round {round}: {output:?}")
        })?;
    }
    Ok(())
}
