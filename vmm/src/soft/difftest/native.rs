//! The oracle: ring 3 as the host's CPU runs it.

use super::case::Case;
use super::layout::{Guest, HANDLER_LEN, HANDLERS, SYSCALL_ENTRY, system_registers};
use super::outcome::{End, Outcome};
use super::vectors;
use crate::cpu::{Action, Exit};
use crate::kvm::{Host, Ring3, Ring3Exit, Ring3State, SyscallMsrs};
use crate::soft::flags::RF;
use crate::soft::step::Exception;
use crate::sys::tsc::tsc;

/// TSC ticks after which a case has not ended.
const TIMEOUT: u64 = 2_000_000_000;
const GENERAL_PROTECTION: u8 = 13;
const PAGE_FAULT: u8 = 14;
/// Bits of a page fault's error code.
const PRESENT: u32 = 1;
const RESERVED: u32 = 1 << 3;

/// The host's CPU with a guest.
#[derive(Debug)]
pub(super) struct Native {
    ring3: Ring3,
    guest: Guest,
}

impl Native {
    /// The reason in words if the host has none.
    pub(super) fn new() -> Result<Self, String> {
        let host = Host::open().map_err(|error| error.to_string())?;
        let guest = Guest::new();
        let cpuid = host.cpuid().map_err(|error| error.to_string())?;
        let ring3 = Ring3::create(&host, &guest.memory, &cpuid).map_err(|error| error.to_string())?;
        Ok(Self { ring3, guest })
    }

    /// Makes the pages as at first.
    pub(super) fn reset_pages(&mut self) {
        self.guest.reset_pages();
        self.ring3.flush();
    }

    /// Runs a case.
    pub(super) fn run(&mut self, case: &Case) -> Outcome {
        self.guest.set_up(case);
        if !case.vectors.is_empty() {
            self.ring3.set_extended_state(&vectors::state(&case.vectors)).expect("a valid state");
        }
        let mut state = Ring3State {
            regs: case.registers(),
            sregs: system_registers(),
            syscall: SyscallMsrs { star: 0x0023_0010_0000_0000, lstar: SYSCALL_ENTRY, fmask: 0x25_7fd5 },
        };
        let until = Some(tsc() + TIMEOUT);
        let mut handler = |exit: Exit<'_>| -> Action { panic!("{exit:?} by {case}") };
        let exit = self.ring3.enter(&mut state, until, &mut handler);
        let exit = exit.unwrap_or_else(|error| panic!("{error} by {case}"));
        let outcome = match exit {
            Ring3Exit::Kernel => self.at_handler(&state),
            Ring3Exit::Kicked => {
                self.outcome(End::Hang, state.regs.rip, state.regs.rsp, state.regs.rflags, &state)
            }
            other => panic!("{other:?} by {case}"),
        };
        self.guest.clean_up(case);
        if case.vectors.is_empty() {
            return outcome;
        }
        let state = self.ring3.extended_state().expect("a state");
        Outcome { vectors: vectors::registers(&state), ..outcome }
    }

    fn at_handler(&self, state: &Ring3State) -> Outcome {
        let vector = u8::try_from((state.regs.rip - HANDLERS) / HANDLER_LEN).expect("a vector");
        let pushes_code = matches!(vector, 8 | 10..=14 | 17 | 21);
        let word = |index: u64| self.guest.kernel_word(state.regs.rsp + 8 * index);
        let frame = u64::from(pushes_code);
        let (rip, rflags, rsp) = (word(frame), word(frame + 2) & !RF, word(frame + 3));
        if vector == GENERAL_PROTECTION && self.guest.is_end(rip) {
            return self.outcome(End::Reached, rip, rsp, rflags, state);
        }
        let mut error_code = pushes_code.then(|| u32::try_from(word(0)).expect("32 bits"));
        let address = (vector == PAGE_FAULT).then_some(state.sregs.cr2);
        if address.is_some_and(|address| address >> 63 != 0) {
            // Where the guest's kernel has nothing, a KVM without hardware assistance has reserved bits of its own.
            error_code =
                error_code.map(|code| if code & RESERVED == 0 { code } else { code & !RESERVED & !PRESENT });
        }
        let exception = Exception { vector, error_code, address };
        self.outcome(End::Exception(exception), rip, rsp, rflags, state)
    }

    fn outcome(&self, end: End, rip: u64, rsp: u64, flags: u64, state: &Ring3State) -> Outcome {
        let regs = &state.regs;
        let regs = [
            regs.rax, regs.rcx, regs.rdx, regs.rbx, rsp, regs.rbp, regs.rsi, regs.rdi, regs.r8, regs.r9,
            regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
        ];
        Outcome {
            end,
            rip,
            regs,
            flags,
            vectors: Vec::new(),
            data: self.guest.data(),
            pages: self.guest.pages(),
        }
    }
}
