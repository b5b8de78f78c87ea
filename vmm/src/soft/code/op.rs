//! An instruction, decoded for execution.

use super::super::cpu::{Cpu, NO_BASE, ZERO};
use super::super::step::{Step, Stop};

/// Carries out one instruction. On an error the instruction has had no effect (see [`Stop`]).
pub(crate) type Handler = fn(&mut Cpu, &Op) -> Step;

/// A handler with its operands: half a cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Op {
    pub(crate) run: Handler,
    /// An immediate operand, extended to 64 bits as the instruction wants it, or the target of a branch.
    pub(crate) imm: u64,
    /// Displacement of the memory operand, the whole address if it is relative to RIP.
    pub(crate) disp: u64,
    /// First register operand.
    pub(crate) dst: u8,
    /// Second register operand.
    pub(crate) src: u8,
    /// Base register of the memory operand.
    pub(crate) base: u8,
    /// Index register of the memory operand.
    pub(crate) index: u8,
    /// Shift of the index.
    pub(crate) scale: u8,
    /// Segment of the memory operand, as a number of `Cpu::bases`.
    pub(crate) segment: u8,
    /// Offset of the instruction in its page, and its length in the upper four bits.
    at: u16,
}

const _: () = assert!(size_of::<Op>() == 32);

fn unknown(_: &mut Cpu, _: &Op) -> Step {
    Err(Stop::Unknown)
}

impl Op {
    /// An operation without operands for the instruction of `len` bytes at `address`; nobody knows it yet.
    pub(crate) fn at(address: u64, len: usize) -> Self {
        let at = (address & 0xfff) | (len as u64 & 15) << 12;
        Self {
            run: unknown,
            imm: 0,
            disp: 0,
            dst: 0,
            src: 0,
            base: ZERO,
            index: ZERO,
            scale: 0,
            segment: NO_BASE,
            at: u16::try_from(at).unwrap_or_default(),
        }
    }

    /// Whether it stands for no instruction: it only ends a block.
    #[inline(always)]
    pub(crate) fn is_end(&self) -> bool {
        self.at >> 12 == 0
    }

    /// Address of the memory operand.
    #[inline(always)]
    pub(crate) fn address(&self, cpu: &Cpu) -> u64 {
        self.effective_address(cpu).wrapping_add(cpu.bases[usize::from(self.segment & 3)])
    }

    /// Address of the memory operand in its segment.
    #[inline(always)]
    pub(crate) fn effective_address(&self, cpu: &Cpu) -> u64 {
        let base = cpu.regs[usize::from(self.base & 31)];
        let index = cpu.regs[usize::from(self.index & 31)];
        base.wrapping_add(index << (self.scale & 3)).wrapping_add(self.disp)
    }

    /// Address of the instruction while it runs.
    #[inline(always)]
    pub(crate) fn rip(&self, cpu: &Cpu) -> u64 {
        cpu.page | u64::from(self.at & 0xfff)
    }

    /// Address of the instruction behind it while it runs.
    #[inline(always)]
    pub(crate) fn next_rip(&self, cpu: &Cpu) -> u64 {
        self.rip(cpu).wrapping_add(u64::from(self.at >> 12))
    }
}

/// How many instructions a block has.
#[inline(always)]
pub(crate) fn instructions(ops: &[Op]) -> u64 {
    ops.len() as u64 - u64::from(ops.last().is_some_and(Op::is_end))
}
