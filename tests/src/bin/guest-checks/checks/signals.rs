//! Faults of programs become signals, and programs go on after them.

use std::arch::asm;
use std::time::{Duration, Instant};

use super::{Outcome, at, expect};
use crate::sys::mapping::{Access, Mapping};
use crate::sys::process::{Ended, in_child};
use crate::sys::signals::{self, Caught, LEFT, Then};
use crate::sys::vector::{Registers, While, hold};

/// `si_code` of the faults below (`asm-generic/siginfo.h`).
const FPE_INTDIV: i32 = 1;
const ILL_ILLOPN: i32 = 2;
const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
const TRAP_TRACE: i32 = 2;
const SI_KERNEL: i32 = 0x80;

/// Executes `instruction` with a handler that goes on behind it, and answers what the handler was told.
macro_rules! fault {
    ($signal:expr, $then:expr, $instruction:literal $(, $($operand:tt)*)?) => {{
        signals::catch($signal, $then).map_err(at("sigaction"))?;
        #[expect(unsafe_code, reason = "an instruction that faults is what is looked at")]
        // SAFETY: the instruction only faults, and the handler goes on behind it.
        unsafe { asm!($instruction $(, $($operand)*)?) };
        signals::caught()
    }};
}

/// A division by zero, an invalid instruction, a breakpoint, addresses that nobody has, and what only the kernel may.
pub(crate) fn instructions_that_fault_say_how() -> Outcome {
    for _ in 0..5 {
        let caught = fault!(libc::SIGFPE, Then::Skip(2), "xor edx, edx\n div ecx", in("ecx") 0, inout("eax") 1 => _, out("edx") _);
        is("a division by zero", caught, (libc::SIGFPE, FPE_INTDIV), None)?;
        let caught = fault!(libc::SIGILL, Then::Skip(2), "ud2");
        is("an invalid instruction", caught, (libc::SIGILL, ILL_ILLOPN), None)?;
        let caught = fault!(libc::SIGTRAP, Then::GoOn, "int3");
        is("a breakpoint", caught, (libc::SIGTRAP, SI_KERNEL), None)?;
        let caught = fault!(libc::SIGTRAP, Then::GoOn, ".byte 0xf1");
        expect(caught.signal == libc::SIGTRAP, || format!("int1: {caught:?}"))?;
        let caught = fault!(libc::SIGSEGV, Then::Skip(2), "mov eax, [rcx]", in("rcx") 0x1238, out("eax") _);
        is("a load from nowhere", caught, (libc::SIGSEGV, SEGV_MAPERR), Some(0x1238))?;
        let kernel = 0xffff_ffff_8100_0000u64;
        let caught = fault!(libc::SIGSEGV, Then::Skip(2), "mov [rcx], eax", in("rcx") kernel, in("eax") 0);
        is("a store to the kernel", caught, (libc::SIGSEGV, SEGV_MAPERR), None)?;
        let caught =
            fault!(libc::SIGSEGV, Then::Skip(2), "mov eax, [rcx]", in("rcx") 1u64 << 62, out("eax") _);
        is("no canonical address", caught, (libc::SIGSEGV, SI_KERNEL), None)?;
        let caught = fault!(libc::SIGSEGV, Then::Skip(1), "hlt");
        is("a halt", caught, (libc::SIGSEGV, SI_KERNEL), None)?;
        let caught = fault!(libc::SIGSEGV, Then::Skip(3), "mov rax, cr4", out("rax") _);
        is("a control register", caught, (libc::SIGSEGV, SI_KERNEL), None)?;
        let caught = fault!(libc::SIGSEGV, Then::Skip(2), "int 0x90");
        is("an interrupt of the kernel's", caught, (libc::SIGSEGV, SI_KERNEL), None)?;
        let page = Mapping::private(1).map_err(at("mmap"))?;
        page.protect(Access::Read).map_err(at("mprotect"))?;
        let address = page.address();
        let caught = fault!(libc::SIGSEGV, Then::Skip(2), "mov [rcx], eax", in("rcx") address, in("eax") 0);
        is("a store to a read-only page", caught, (libc::SIGSEGV, SEGV_ACCERR), Some(address))?;
    }
    Ok(())
}

fn is(what: &str, caught: Caught, expected: (i32, i32), address: Option<usize>) -> Outcome {
    expect((caught.signal, caught.code) == expected, || format!("{what}: {caught:?}, not {expected:?}"))?;
    expect(address.is_none_or(|a| a == caught.address), || {
        format!("{what}: {caught:x?}, not at {address:x?}")
    })
}

/// A program that sets the trap flag by itself.
pub(crate) fn a_program_can_step_through_itself() -> Outcome {
    signals::catch(libc::SIGTRAP, Then::GoOn).map_err(at("sigaction"))?;
    for round in 0..20 {
        let before = signals::caught().count;
        #[expect(unsafe_code, reason = "the trap flag is what is looked at")]
        // SAFETY: the trap flag is clear again in the end, and the handler goes on.
        unsafe {
            asm!(
                "pushfq",
                "or qword ptr [rsp], 0x100",
                "popfq",
                "nop",
                "nop",
                "pushfq",
                "and qword ptr [rsp], -257",
                "popfq",
            );
        }
        let caught = signals::caught();
        expect((caught.signal, caught.code) == (libc::SIGTRAP, TRAP_TRACE), || format!("{caught:?}"))?;
        // Behind each of the five instructions before the flag is clear again.
        let steps = caught.count - before;
        expect(steps == 5, || format!("round {round}: {steps} steps, not 5"))?;
    }
    Ok(())
}

/// A program that runs out of stack.
pub(crate) fn a_full_stack_can_be_handled_on_another() -> Outcome {
    let stack = Mapping::private(16).map_err(at("mmap"))?;
    let range = stack.address()..stack.address() + stack.len();
    let seen = Mapping::shared(1).map_err(at("mmap"))?;
    let ended = in_child(|| {
        if signals::use_stack(&stack).and_then(|()| signals::catch(libc::SIGSEGV, Then::Skip(1))).is_err() {
            return 1;
        }
        // Not down a real stack, whose depth nobody knows: the page below this one is not mapped or not this one's.
        let guard = Mapping::private(1).and_then(|page| page.protect(Access::None).map(|()| page));
        let Ok(guard) = guard else { return 2 };
        let top = guard.address() + guard.len() / 2;
        #[expect(unsafe_code, reason = "an instruction that faults is what is looked at")]
        // SAFETY: the push faults, the handler goes on behind it, and the stack is the compiler's again.
        unsafe {
            asm!("xchg rsp, {top}", "push rax", "xchg rsp, {top}", top = inout(reg) top => _);
        }
        let caught = signals::caught();
        seen.word(0).store(caught.stack as u64, std::sync::atomic::Ordering::SeqCst);
        i32::from(caught.signal != libc::SIGSEGV)
    });
    let on = seen.word(0).load(std::sync::atomic::Ordering::SeqCst);
    expect(matches!(ended, Ok(Ended::Exited(0))), || format!("it ended with {ended:?}"))?;
    expect(usize::try_from(on).is_ok_and(|on| range.contains(&on)), || {
        format!("on {on:#x}, not in {range:x?}")
    })?;
    // Without a handler's stack the kernel cannot even push the frame.
    let ended = in_child(|| {
        if signals::use_no_stack().and_then(|()| signals::catch(libc::SIGSEGV, Then::Leave)).is_err() {
            return 1;
        }
        #[expect(unsafe_code, reason = "an instruction that faults is what is looked at")]
        // SAFETY: ends the process.
        unsafe {
            asm!("xor esp, esp", "push rax", "ud2", options(noreturn));
        }
    });
    expect(matches!(ended, Ok(Ended::Killed(libc::SIGSEGV))), || {
        format!("without a stack: {ended:?} ({LEFT} is its handler's)")
    })
}

/// A loop without system calls still gets its signals.
pub(crate) fn a_timer_interrupts_a_loop() -> Outcome {
    signals::catch(libc::SIGALRM, Then::GoOn).map_err(at("sigaction"))?;
    signals::tick_every(20_000).map_err(at("setitimer"))?;
    let before = signals::caught().count;
    let start = Instant::now();
    let mut loops = 0u64;
    while start.elapsed() < Duration::from_secs(1) {
        loops = std::hint::black_box(loops + 1);
    }
    let ticks = signals::caught().count - before;
    signals::tick_every(0).map_err(at("setitimer"))?;
    expect((20..=52).contains(&ticks), || format!("{ticks} signals in a second, one every 20 ms"))
}

/// A handler that uses all vector registers, while the program it interrupts does.
pub(crate) fn handlers_leave_vector_registers_alone() -> Outcome {
    // Its frame and what the handler has would fill the stack that std provides.
    let stack = Mapping::private(16).map_err(at("mmap"))?;
    signals::use_stack(&stack).map_err(at("sigaltstack"))?;
    signals::catch(libc::SIGALRM, Then::Clobber).map_err(at("sigaction"))?;
    signals::tick_every(5_000).map_err(at("setitimer"))?;
    let before = signals::caught().count;
    let start = Instant::now();
    let mut seed = 1;
    while start.elapsed() < Duration::from_secs(1) {
        let values = Registers::from_seed(seed);
        let found = hold(&values, if seed % 2 == 0 { While::Spinning } else { While::Yielding }, 1000);
        if let Some(what) = found.difference(&values) {
            return Err(format!("after {} signals: {what}", signals::caught().count));
        }
        seed += 1;
    }
    // The stack is gone after this.
    signals::tick_every(0).map_err(at("setitimer"))?;
    let signals = signals::caught().count - before;
    expect(signals > 20, || format!("only {signals} signals in a second"))
}
