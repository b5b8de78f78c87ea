//! A debugger can stop a program at every instruction.

use super::{Outcome, at, expect};
use crate::sys::machine_code::Code;
use crate::sys::mapping::Mapping;
use crate::sys::process::Ended;
use crate::sys::trace::{self, Traced};

/// Steps after which the code looked for must have come.
const PATIENCE: usize = 20_000;

/// Each of a known list of instructions is stopped at, and every round of a repeated one.
pub(crate) fn steps_through_every_instruction() -> Outcome {
    // nop; push rbx; pop rbx; mov ecx, 3; mov rsi, rdi; rep lodsb; xor eax, eax; ret
    let code: [&[u8]; 8] = [
        &[0x90],
        &[0x53],
        &[0x5b],
        &[0xb9, 3, 0, 0, 0],
        &[0x48, 0x89, 0xfe],
        &[0xf3, 0xac],
        &[0x31, 0xc0],
        &[0xc3],
    ];
    let mut expected: Vec<usize> = Vec::new();
    let mut offset = 0;
    for instruction in code {
        // The repeated one stops after each of its three rounds.
        let stops = if instruction == [0xf3, 0xac] { 3 } else { 1 };
        expected.extend(std::iter::repeat_n(offset, stops));
        offset += instruction.len();
    }
    let page = Code::in_place().map_err(at("mmap"))?;
    page.write(0, &code.concat());
    let data = Mapping::private(1).map_err(at("mmap"))?;
    data.write(0, 1);
    let child = trace::start(|| i32::from(page.call(0, data.address() as u64) != 0)).map_err(at("trace"))?;
    step_to(&child, page.address())?;
    let mut found = Vec::new();
    while found.len() < expected.len() {
        found.push(offset_in(&child, &page)?);
        step(&child)?;
    }
    expect(found == expected, || format!("stops at {found:?}, not {expected:?}"))?;
    let ended = child.go_on().map_err(at("continue"))?;
    expect(ended == Ended::Exited(0), || format!("the program ended with {ended:?}"))
}

/// The step over `syscall` ends behind it.
pub(crate) fn steps_over_a_system_call() -> Outcome {
    // mov eax, 39 (getpid); syscall; nop; ret
    let code = [0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x90, 0xc3];
    let page = Code::in_place().map_err(at("mmap"))?;
    page.write(0, &code);
    let child =
        trace::start(|| i32::from(page.call(0, 0) != u64::from(std::process::id()))).map_err(at("trace"))?;
    step_to(&child, page.address())?;
    for expected in [0, 5, 7, 8] {
        let found = offset_in(&child, &page)?;
        expect(found == expected, || format!("stops at {found}, not {expected}"))?;
        step(&child)?;
    }
    let ended = child.go_on().map_err(at("continue"))?;
    expect(ended == Ended::Exited(0), || format!("the program ended with {ended:?}"))
}

fn step(child: &Traced) -> Outcome {
    let why = child.step().map_err(at("step"))?;
    expect(why == Ended::Stopped(libc::SIGTRAP), || format!("a step ended with {why:?}"))
}

fn step_to(child: &Traced, address: usize) -> Outcome {
    for _ in 0..PATIENCE {
        if child.registers().map_err(at("registers"))?.rip == address as u64 {
            return Ok(());
        }
        step(child)?;
    }
    let _ = child.kill();
    Err(format!("{PATIENCE} steps did not lead to {address:#x}"))
}

fn offset_in(child: &Traced, page: &Code) -> Result<usize, String> {
    let rip = child.registers().map_err(at("registers"))?.rip;
    usize::try_from(rip).map(|rip| rip.wrapping_sub(page.address())).map_err(at("an address"))
}
