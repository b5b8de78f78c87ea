//! The integer part of SSE and AVX2, as far as the string functions of C libraries use it and what compilers make of
//! loops and copies.
//!
//! Vector code runs natively as a rule. But programs that have just started alternate between a few instructions, among
//! them some of these, and page faults or system calls; entering them natively each time would cost more than all of
//! their work. There is no arithmetic with floating-point numbers.
//!
//! Each instruction has up to three encodings, which share a handler: SSE's, AVX's on 128 bits, AVX's on 256 bits. What
//! differs is in [`registers`] (what becomes of the rest of a register) and [`memory`] (alignment). Intel SDM volume 2.
//!
//! - [`moves`] moves whole registers, [`parts`] parts of them, [`elements`] single ones, [`halves`] halves of 256 bits.
//! - [`lanes`] computes on pairs of lanes, [`shifts`] shifts, [`shuffle`] picks bytes, [`broadcast`] repeats.
//! - [`masks`] tells general registers and flags, [`text`] compares strings, [`zero`] clears.

#[cfg(test)]
mod avx_tests;
mod broadcast;
mod elements;
mod halves;
mod lanes;
mod masks;
mod memory;
mod moves;
mod operands;
mod parts;
mod registers;
mod shifts;
mod shuffle;
#[cfg(test)]
mod tests;
mod text;
mod zero;

use iced_x86::Instruction;

use super::super::code::op::{Handler, Op};

const GROUPS: [fn(&Instruction, &mut Op) -> Option<Handler>; 11] = [
    moves::translate,
    lanes::translate,
    masks::translate,
    parts::translate,
    zero::translate,
    shuffle::translate,
    shifts::translate,
    broadcast::translate,
    elements::translate,
    halves::translate,
    text::translate,
];

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let blank = *op;
    GROUPS.iter().find_map(|group| {
        *op = blank;
        group(instruction, op)
    })
}
