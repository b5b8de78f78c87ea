//! Runs decoded instructions.

use std::sync::atomic::{AtomicBool, Ordering, fence};

use super::code::cache::Cache;
use super::code::op::instructions;
use super::cpu::Cpu;
use super::step::Stop;

/// The interpreter: a CPU and what was decoded for it.
#[derive(Debug)]
pub(crate) struct Interpreter {
    pub(crate) cpu: Cpu,
    pub(crate) cache: Cache,
    /// Instructions completed.
    pub(crate) instructions: u64,
    /// Blocks started.
    pub(crate) blocks: u64,
}

/// Why the interpreter came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    /// It has run as long as it was to, or somebody wants its attention.
    Look,
    /// An instruction stopped it. RIP is the address of the instruction, or where it went if it is done.
    Stop(Stop),
}

impl Interpreter {
    /// An interpreter for `cpu`.
    pub(crate) fn new(cpu: Cpu) -> Self {
        Self { cpu, cache: Cache::default(), instructions: 0, blocks: 0 }
    }

    /// Runs until about `budget` instructions are done, `attention` is set, or an instruction stops it.
    pub(crate) fn run(&mut self, budget: u64, attention: &AtomicBool) -> Pause {
        if (!self.cpu.answered.is_empty() || self.cpu.port_answer.is_some())
            && let Err(stop) = self.replay()
        {
            return Pause::Stop(stop);
        }
        let end = self.instructions + budget;
        while self.instructions < end && !attention.load(Ordering::Relaxed) {
            let result = match self.run_block() {
                Err(Stop::Code) => self.write_to_code(),
                other => other,
            };
            if let Err(stop) = result {
                return Pause::Stop(stop);
            }
        }
        Pause::Look
    }

    #[inline(always)]
    fn run_block(&mut self) -> Result<(), Stop> {
        self.blocks += 1;
        let cpu = &mut self.cpu;
        cpu.page = cpu.rip & !0xfff;
        let ops = self.cache.find(cpu)?;
        for (done, op) in (0..).zip(ops) {
            if let Err(stop) = (op.run)(cpu, op) {
                self.instructions += done;
                if matches!(stop, Stop::Done | Stop::Halt) {
                    self.instructions += 1;
                } else {
                    cpu.rip = op.rip(cpu);
                    cpu.name_segment(op);
                }
                return Err(stop);
            }
        }
        self.instructions += instructions(ops);
        Ok(())
    }

    /// Runs one instruction.
    ///
    /// # Errors
    /// What stopped it.
    pub(crate) fn step(&mut self) -> Result<(), Stop> {
        let cpu = &mut self.cpu;
        cpu.page = cpu.rip & !0xfff;
        let ops = self.cache.decode_once(cpu)?;
        let Some(op) = ops.first() else { return Err(Stop::Unknown) };
        // Only instructions that end a block set RIP themselves.
        cpu.rip = op.next_rip(cpu);
        let result = (op.run)(cpu, op);
        // It may be one that orders accesses; the others do not mind.
        fence(Ordering::SeqCst);
        match result {
            Ok(()) | Err(Stop::Done | Stop::Halt) => self.instructions += 1,
            Err(_) => {
                cpu.rip = op.rip(cpu);
                cpu.name_segment(op);
            }
        }
        match result {
            Err(Stop::Code) => self.write_to_code(),
            other => other,
        }
    }

    /// Forgets the code that the instruction at RIP writes to, and runs it, without remembering any code.
    #[cold]
    fn write_to_code(&mut self) -> Result<(), Stop> {
        self.forget_written_code();
        self.step()
    }

    /// Forgets the code in the page that [`Stop::Code`] is about.
    pub(crate) fn forget_written_code(&mut self) {
        self.cache.forget(self.cpu.code_written, &mut self.cpu);
    }

    /// Runs the instruction again that a device has answered.
    ///
    /// # Errors
    /// What stopped it.
    pub(crate) fn replay(&mut self) -> Result<(), Stop> {
        let result = self.step();
        if result != Err(Stop::Device) {
            self.cpu.answered.clear();
            self.cpu.port_answer = None;
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::super::cpu::{RAX, RBX, RCX};
    use super::super::testing::{CODE, STACK, interpreter, run};
    use super::*;

    #[test]
    fn a_loop_is_run_to_its_end() {
        // mov ecx, 10; xor eax, eax; again: add eax, ecx; dec ecx; jnz again
        let code = [0xb9, 10, 0, 0, 0, 0x31, 0xc0, 0x01, 0xc8, 0xff, 0xc9, 0x75, 0xfa];
        let cpu = run(&code, |_| {});
        assert_eq!((cpu.get::<u64>(RAX), cpu.get::<u64>(RCX)), (55, 0));
    }

    #[test]
    fn calls_return_behind_themselves() {
        // call f; jmp end; f: mov ebx, 7; ret; end:
        let cpu = run(&[0xe8, 2, 0, 0, 0, 0xeb, 6, 0xbb, 7, 0, 0, 0, 0xc3], |_| {});
        assert_eq!((cpu.get::<u64>(RBX), cpu.regs[4]), (7, STACK));
    }

    #[test]
    fn code_that_changes_itself_is_decoded_again() {
        // again: mov al, 1; mov byte [rip-8 (the 1)], 5; cmp al, 5; jne again
        let code = [0xb0, 1, 0xc6, 0x05, 0xf8, 0xff, 0xff, 0xff, 5, 0x3c, 5, 0x75, 0xf3];
        let mut interpreter = interpreter(&code);
        let calm = AtomicBool::new(false);
        while interpreter.cpu.rip != CODE + code.len() as u64 {
            assert!(matches!(interpreter.run(1, &calm), Pause::Look));
        }
        assert_eq!(interpreter.cpu.get::<u8>(RAX), 5);
        assert!(interpreter.cache.stats.rewritten > 0);
    }

    #[test]
    fn an_unknown_instruction_stops_at_its_own_address() {
        // mov eax, 1; aesenc xmm0, xmm1
        let mut interpreter = interpreter(&[0xb8, 1, 0, 0, 0, 0x66, 0x0f, 0x38, 0xdc, 0xc1]);
        let calm = AtomicBool::new(false);
        assert_eq!(interpreter.run(100, &calm), Pause::Stop(Stop::Unknown));
        assert_eq!((interpreter.cpu.rip, interpreter.instructions), (CODE + 5, 1));
    }
}
