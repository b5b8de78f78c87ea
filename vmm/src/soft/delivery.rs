//! One attempt to deliver an event through the interrupt table (Intel SDM volume 3A, section 6.14, and volume 2A, "INT").

use super::cpu::{Cpu, RSP};
use super::descriptors::{in_error, null_segment};
use super::flags::{IF, NT, RF, TF};
use super::gate::Gate;
use super::mmu::Place;
use super::mmu::tlb::Kind;
use super::mmu::walk::is_canonical;
use super::step::{Exception, Step, Stop};

/// Bit of an error code: software did not ask for the event.
const EXTERNAL: u32 = 1;
/// Where a task state segment has the stack pointer for ring 0, and the interrupt stack table.
const TSS_RSP0: u64 = 4;
const TSS_IST: u64 = 0x24;

/// An event on its way to its handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) vector: u8,
    pub(crate) error_code: Option<u32>,
    /// An instruction asks for it by number: the gate must allow that.
    pub(crate) by_number: bool,
    /// The instruction is to be run again after it.
    pub(crate) is_fault: bool,
    /// Address that the handler returns to.
    pub(crate) back: u64,
}

impl Delivery {
    fn external(&self) -> u32 {
        if self.by_number { 0 } else { EXTERNAL }
    }
}

/// Where the handler runs.
struct Target {
    segment: kvm_bindings::kvm_segment,
    /// Ring 3 is left.
    is_inner: bool,
}

impl Cpu {
    /// Enters the handler of an event: RIP, stack, code segment and flags are its own afterwards.
    ///
    /// # Errors
    /// An exception prevents that, or the stack is on a page of code that must be forgotten first. Nothing has changed
    /// then, not even in memory.
    pub(crate) fn enter_handler(&mut self, delivery: &Delivery) -> Step {
        let external = delivery.external();
        let level = delivery.by_number.then(|| self.level());
        let gate = Gate::of(self, delivery.vector, level, external)?;
        let target = self.handlers_segment(gate.selector, external)?;
        let stack = self.handlers_stack(&gate, &target, external)?;
        if !is_canonical(gate.handler) {
            return self.raise(Exception::general_protection(external));
        }
        let resume = if delivery.is_fault { RF } else { 0 };
        let error_code = delivery.error_code.unwrap_or_default();
        let frame = [
            error_code.into(),
            delivery.back,
            self.sregs.cs.selector.into(),
            self.flags.get() & !RF | resume,
            self.regs[usize::from(RSP)],
            self.sregs.ss.selector.into(),
        ];
        let frame = if delivery.error_code.is_some() { &frame[..] } else { &frame[1..] };
        let top = self.push_frame(stack & !15, frame, external)?;

        let interrupts = if gate.disables_interrupts { IF } else { 0 };
        self.flags.set_rest(TF | NT | RF | interrupts, 0);
        self.sregs.cs = target.segment;
        if target.is_inner {
            self.sregs.ss = null_segment(0);
            self.user = false;
        }
        self.regs[usize::from(RSP)] = top;
        self.rip = gate.handler;
        Ok(())
    }

    fn handlers_segment(&mut self, selector: u16, external: u32) -> Step<Target> {
        let error_code = in_error(selector) | external;
        let Some(found) = self.descriptor(selector)? else {
            return self.raise(Exception::general_protection(error_code));
        };
        let code = found.descriptor;
        let fits = code.is_code() && code.is_long() && !code.is_big() && code.level() <= self.level();
        let keeps_level = code.is_conforming() || code.level() == self.level();
        if !fits || !keeps_level && code.level() != 0 {
            return self.raise(Exception::general_protection(error_code));
        }
        if !code.is_present() {
            return self.raise(Exception::not_present(error_code));
        }
        self.mark_accessed(found)?;
        let level = if keeps_level { self.level() } else { 0 };
        let segment = code.load(selector & !3 | u16::from(level));
        Ok(Target { segment, is_inner: !keeps_level })
    }

    /// First byte behind the stack that the handler gets.
    fn handlers_stack(&mut self, gate: &Gate, target: &Target, external: u32) -> Step<u64> {
        let offset = match gate.stack {
            0 if !target.is_inner => return Ok(self.regs[usize::from(RSP)]),
            0 => TSS_RSP0,
            stack => TSS_IST + 8 * (u64::from(stack) - 1),
        };
        if offset + 7 > u64::from(self.sregs.tr.limit) {
            let error_code = in_error(self.sregs.tr.selector) | external;
            return self.raise(Exception::invalid_task(error_code));
        }
        let at = self.sregs.tr.base.wrapping_add(offset);
        self.read_system::<u64>(at)
    }

    /// Writes `frame` below `stack`, all of it or nothing, and returns its first address.
    fn push_frame(&mut self, stack: u64, frame: &[u64], external: u32) -> Step<u64> {
        let (top, last) = (stack.wrapping_sub(8 * frame.len() as u64), stack.wrapping_sub(1));
        if !is_canonical(top) || !is_canonical(last) {
            return self.raise(Exception::stack_fault(external));
        }
        let offset = self.writable(top)?;
        if top & !0xfff != last & !0xfff {
            self.writable(last)?;
            for (at, word) in (top..stack).step_by(8).zip(frame) {
                self.write_system::<u64>(at, *word)?;
            }
            return Ok(top);
        }
        for (at, word) in (offset..).step_by(8).zip(frame) {
            self.mmu.ram.store::<u64>(at, *word);
        }
        Ok(top)
    }

    /// Where the byte at `linear` is, for the CPU itself to write.
    fn writable(&mut self, linear: u64) -> Step<usize> {
        match self.locate(linear, Kind::Write, false)? {
            Place::Ram(offset) => Ok(offset),
            Place::Code(offset) => {
                self.code_written = offset & !0xfff;
                Err(Stop::Code)
            }
            Place::Device(_) => Err(Stop::Unknown),
        }
    }
}
