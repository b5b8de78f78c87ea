//! The software engine under a debugger. As long as there is a place to stop at, everything that the interpreter knows is
//! interpreted, in ring 3 too: whole blocks where no breakpoint is in their page, single instructions otherwise. What it
//! does not know runs natively, up to the next event, and cannot be stopped in.

use std::sync::atomic::Ordering;

use super::{STRETCH, SoftCpu, Then, leaving, may_interpret};
use crate::cpu::debug::{DebugCpu, DebugState, FXSAVE, Stops, Trap};
use crate::cpu::{Action, CpuError, Exit, Left};
use crate::soft::cpu::Cpu;
use crate::soft::extended::Extended;
use crate::soft::interpreter::Pause;
use crate::soft::mmu::tlb::Kind;
use crate::soft::step::Stop;
use crate::sys::tsc::tsc;

/// More than anybody sets; each costs a comparison per block.
const MOST_BREAKPOINTS: usize = 256;
/// Where XSAVE's header says which components are not in their initial state, and the bits of x87 and SSE there.
const XSTATE_BV: usize = 512;
const X87_AND_SSE: u8 = 0b11;

/// How far the interpreter came.
enum Came {
    ToBreakpoint,
    To(Pause),
}

impl SoftCpu {
    /// One turn of the loop while there is a place to stop at.
    pub(super) fn turn_to_stop(
        &mut self,
        handler: &mut dyn FnMut(Exit<'_>) -> Action,
    ) -> Result<Then, CpuError> {
        if self.is_halted {
            return self.halt(handler);
        }
        let is_between = self.interpreter.cpu.is_between_instructions();
        if is_between
            && self.attention.take()
            && let Some(left) = leaving(handler(Exit::Kicked))
        {
            return Ok(Some(left));
        }
        if self.stops.step {
            return self.step_for_debugger(handler);
        }
        self.controllers.advance(tsc());
        if is_between {
            self.take_interrupt()?;
        }
        if self.interpreter.cpu.user && !may_interpret(&self.interpreter.cpu) {
            return self.run_natively(handler);
        }
        let (was_user, before) = (self.interpreter.cpu.user, self.interpreter.instructions);
        let came = self.run_to_breakpoint();
        if !was_user {
            self.counters.kernel_instructions += self.interpreter.instructions - before;
        }
        match came {
            Came::ToBreakpoint => Ok(Some(Left::Trapped(Trap::Breakpoint))),
            Came::To(Pause::Look) => Ok(None),
            Came::To(Pause::Stop(stop)) => self.stopped(stop, handler),
        }
    }

    /// Runs up to a breakpoint, for a stretch at most. A block never leaves its page.
    fn run_to_breakpoint(&mut self) -> Came {
        let (interpreter, attention) = (&mut self.interpreter, self.attention.wanted());
        let breakpoints = &self.stops.breakpoints;
        let end = interpreter.instructions + STRETCH;
        let mut is_between = interpreter.cpu.is_between_instructions();
        while interpreter.instructions < end && !(is_between && attention.load(Ordering::Relaxed)) {
            let rip = interpreter.cpu.rip;
            let result = if !is_between {
                interpreter.replay()
            } else if breakpoints.contains(&rip) && can_fetch(&mut interpreter.cpu) {
                return Came::ToBreakpoint;
            } else if std::mem::take(&mut interpreter.cpu.shadow)
                || breakpoints.iter().any(|at| at >> 12 == rip >> 12)
            {
                interpreter.step()
            } else {
                match interpreter.run(1, attention) {
                    Pause::Look => Ok(()),
                    Pause::Stop(stop) => Err(stop),
                }
            };
            if let Err(stop) = result {
                return Came::To(Pause::Stop(stop));
            }
            is_between = true;
        }
        Came::To(Pause::Look)
    }

    /// Does one instruction, or delivers the exception that it raises.
    fn step_for_debugger(&mut self, handler: &mut dyn FnMut(Exit<'_>) -> Action) -> Result<Then, CpuError> {
        let interpreter = &mut self.interpreter;
        if interpreter.cpu.user && !may_interpret(&interpreter.cpu) {
            let left = self.run_natively(handler)?;
            return Ok(left.or(Some(Left::Trapped(Trap::Step))));
        }
        interpreter.cpu.shadow = false;
        let result =
            if interpreter.cpu.is_between_instructions() { interpreter.step() } else { interpreter.replay() };
        if let Err(stop) = result {
            if let Some(left) = self.stopped(stop, handler)? {
                return Ok(Some(left));
            }
            if matches!(stop, Stop::Again | Stop::Port | Stop::Device | Stop::Extended | Stop::Code) {
                // Not done yet.
                return Ok(None);
            }
        }
        Ok(Some(Left::Trapped(Trap::Step)))
    }

    fn extended(&mut self) -> Result<&mut Extended, CpuError> {
        let cpu = &mut self.interpreter.cpu;
        let extended = match cpu.extended.take() {
            Some(extended) => extended,
            None => Extended::new(self.ring3.extended_state()?),
        };
        Ok(cpu.extended.insert(extended))
    }
}

/// Whether there is an instruction at RIP. Where the fetch faults, the CPU comes back when the guest has seen to it.
fn can_fetch(cpu: &mut Cpu) -> bool {
    let found = cpu.locate(cpu.rip, Kind::Execute, cpu.user);
    cpu.exception = None;
    found.is_ok()
}

impl DebugCpu for SoftCpu {
    fn most_breakpoints(&self) -> usize {
        MOST_BREAKPOINTS
    }

    fn registers(&mut self) -> Result<DebugState, CpuError> {
        let mut fpu = [0; FXSAVE];
        for (to, from) in fpu.iter_mut().zip(self.extended()?.state.iter()) {
            *to = *from;
        }
        let (regs, sregs) = self.interpreter.cpu.export();
        Ok(DebugState { regs, sregs, fpu })
    }

    fn set_registers(&mut self, state: &DebugState) -> Result<(), CpuError> {
        let before = self.registers()?;
        if state.fpu != before.fpu {
            let extended = self.extended()?;
            for (to, from) in extended.state.iter_mut().zip(state.fpu) {
                *to = from;
            }
            extended.state[XSTATE_BV] |= X87_AND_SSE;
            extended.is_dirty = true;
        }
        if state.regs.rip != before.regs.rip {
            // It goes elsewhere, and so waits no longer.
            self.is_halted = false;
        }
        self.interpreter.cpu.import(&state.regs, &before.sregs);
        Ok(())
    }

    fn stop_at(&mut self, stops: &Stops) -> Result<(), CpuError> {
        self.stops = stops.clone();
        Ok(())
    }

    /// What was decoded or translated from that memory may be no longer right.
    fn memory_changed(&mut self) {
        self.interpreter.cache.release(&mut self.interpreter.cpu);
        self.interpreter.cpu.mmu.flush_all();
    }
}
