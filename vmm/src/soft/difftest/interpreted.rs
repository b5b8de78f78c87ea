//! The side under test.

use std::sync::atomic::AtomicBool;

use super::case::Case;
use super::layout::{Guest, system_registers};
use super::outcome::{Arrival, End, Outcome};
use super::vectors;
use crate::cpu::xstate::Layout;
use crate::soft::cpu::Cpu;
use crate::soft::exception::{self, Event};
use crate::soft::extended::Extended;
use crate::soft::interpreter::{Interpreter, Pause};
use crate::soft::ram::Ram;
use crate::soft::step::{Exception, Stop};

/// Blocks or instructions after which a case has not ended.
const PATIENCE: u32 = 100_000;

/// The interpreter with a guest.
#[derive(Debug)]
pub(super) struct Interpreted {
    interpreter: Interpreter,
    guest: Guest,
}

impl Interpreted {
    /// With extended state as the other side has it.
    pub(super) fn new((layout, xcr0): (Layout, u64)) -> Self {
        let guest = Guest::new();
        let ram = Ram::map(&guest.memory).unwrap();
        let mut cpu = Cpu::new(ram, &Default::default(), &system_registers(), 48);
        (cpu.xstate, cpu.xcr0) = (layout, xcr0);
        Self { interpreter: Interpreter::new(cpu), guest }
    }

    /// Makes the pages as at first.
    pub(super) fn reset_pages(&mut self) {
        self.guest.reset_pages();
        self.interpreter.cpu.mmu.flush_all();
    }

    /// Runs a case, by whole blocks or one instruction at a time.
    pub(super) fn run(&mut self, case: &Case, by_blocks: bool) -> Outcome {
        self.guest.set_up(case);
        self.interpreter.cpu.import(&case.registers(), &system_registers());
        let state = vectors::state(&case.vectors, &self.interpreter.cpu.xstate);
        self.interpreter.cpu.extended = Some(Extended::new(state));
        let end = self.run_to_end(by_blocks);
        let extended = self.interpreter.cpu.extended.take();
        let vectors = match &extended {
            Some(extended) if !case.vectors.is_empty() => {
                vectors::registers(&extended.state, &self.interpreter.cpu.xstate)
            }
            _ => Vec::new(),
        };
        let (regs, _) = self.interpreter.cpu.export();
        let rip = regs.rip;
        let flags = regs.rflags;
        let mut general = [0; 16];
        general.copy_from_slice(&self.interpreter.cpu.regs[..16]);
        let arrival = self.deliver(end);
        let (data, pages) = (self.guest.data(), self.guest.pages());
        self.guest.clean_up(case);
        Outcome { end, rip, regs: general, flags, arrival, vectors, data, pages }
    }

    /// Delivers the exception at the end: that of HLT if there was none before.
    fn deliver(&mut self, end: End) -> Option<Arrival> {
        let exception = match end {
            End::Reached => Exception::general_protection(0),
            End::Exception(exception) => exception,
            End::Unknown | End::Hang => return None,
        };
        let cpu = &mut self.interpreter.cpu;
        exception::deliver(cpu, Event::Exception(exception)).expect("all tables are in order");
        let (regs, sregs) = cpu.export();
        Some(Arrival::new(&self.guest, &regs, &sregs))
    }

    fn run_to_end(&mut self, by_blocks: bool) -> End {
        let calm = AtomicBool::new(false);
        for _ in 0..PATIENCE {
            let stop = if by_blocks {
                match self.interpreter.run(1, &calm) {
                    Pause::Look => continue,
                    Pause::Stop(stop) => stop,
                }
            } else {
                match self.interpreter.step() {
                    Ok(()) => continue,
                    Err(stop) => stop,
                }
            };
            let exception = self.interpreter.cpu.exception;
            let is_end = self.guest.is_end(self.interpreter.cpu.rip);
            match stop {
                Stop::Done | Stop::Again => {}
                Stop::Unknown if is_end => return End::Reached,
                Stop::Fault if is_end && exception == Some(Exception::general_protection(0)) => {
                    return End::Reached;
                }
                Stop::Fault => return End::Exception(exception.expect("a fault has an exception")),
                _ => return End::Unknown,
            }
        }
        End::Hang
    }
}
