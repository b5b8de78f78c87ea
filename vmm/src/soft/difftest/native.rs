//! The oracle: ring 3 as the host's CPU runs it.

use super::case::Case;
use super::layout::{Guest, SYSCALL_ENTRY, system_registers};
use super::outcome::{Arrival, End, HAVE_ERROR_CODE, Outcome};
use super::vectors;
use crate::cpu::cpuid::Place;
use crate::cpu::xstate::Layout;
use crate::cpu::{Action, Exit};
use crate::kvm::{Host, Ring3, Ring3Exit, Ring3State, SyscallMsrs};
use crate::soft::cpuid::Cpuid;
use crate::soft::flags::RF;
use crate::soft::step::Exception;
use crate::sys::tsc::tsc;

/// TSC ticks after which a case has not ended.
const TIMEOUT: u64 = 2_000_000_000;
/// Components of extended state that cases use: x87, SSE, AVX, AVX-512.
const XCR0: u64 = 0xe7;
const GENERAL_PROTECTION: u8 = 13;
const PAGE_FAULT: u8 = 14;
/// Bits of a page fault's error code.
const PRESENT: u64 = 1;
const RESERVED: u64 = 1 << 3;

/// The host's CPU with a guest.
#[derive(Debug)]
pub(super) struct Native {
    ring3: Ring3,
    guest: Guest,
    layout: Layout,
    xcr0: u64,
}

impl Native {
    /// The reason in words if the host has none.
    pub(super) fn new() -> Result<Self, String> {
        let host = Host::open().map_err(|error| error.to_string())?;
        let guest = Guest::new();
        let cpuid = host.cpuid(Place::ALONE).map_err(|error| error.to_string())?;
        let ring3 = Ring3::create(&host, &guest.memory, &cpuid).map_err(|error| error.to_string())?;
        let table = Cpuid::of_host(cpuid.as_slice());
        let xcr0 = table.extended_state() & XCR0;
        ring3.set_xcr0(xcr0).map_err(|error| error.to_string())?;
        Ok(Self { ring3, guest, layout: Layout::from_cpuid(cpuid.as_slice()), xcr0 })
    }

    /// Where the components of extended state lie, and those that are switched on.
    pub(super) fn extended_state(&self) -> (Layout, u64) {
        (self.layout.clone(), self.xcr0)
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
            self.ring3
                .set_extended_state(&vectors::state(&case.vectors, &self.layout))
                .expect("a valid state");
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
        Outcome { vectors: vectors::registers(&state, &self.layout), ..outcome }
    }

    fn at_handler(&self, state: &Ring3State) -> Outcome {
        let mut arrival = Arrival::new(&self.guest, &state.regs, &state.sregs);
        let vector = arrival.vector();
        let address = (vector == PAGE_FAULT).then_some(state.sregs.cr2);
        if address.is_some_and(|address| address >> 63 != 0) && arrival.frame[0] & RESERVED != 0 {
            // Where the guest's kernel has nothing, a KVM without hardware assistance has reserved bits of its own.
            arrival.frame[0] &= !RESERVED & !PRESENT;
        }
        let [code, rip, _, flags, rsp, _] = arrival.frame;
        let end = if vector == GENERAL_PROTECTION && self.guest.is_end(rip) {
            End::Reached
        } else {
            let error_code = HAVE_ERROR_CODE.contains(&vector).then(|| u32::try_from(code).expect("32 bits"));
            End::Exception(Exception { vector, error_code, address })
        };
        Outcome { arrival: Some(arrival), ..self.outcome(end, rip, rsp, flags & !RF, state) }
    }

    fn outcome(&self, end: End, rip: u64, rsp: u64, flags: u64, state: &Ring3State) -> Outcome {
        let regs = &state.regs;
        let regs = [
            regs.rax, regs.rcx, regs.rdx, regs.rbx, rsp, regs.rbp, regs.rsi, regs.rdi, regs.r8, regs.r9,
            regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
        ];
        let (data, pages) = (self.guest.data(), self.guest.pages());
        Outcome { end, rip, regs, flags, arrival: None, vectors: Vec::new(), data, pages }
    }
}
