//! Writes classic BPF for seccomp: loads, comparisons, a binary search, returns.
//!
//! Jumps are relative and forward only, and say how many instructions they skip. So a program is written from its end to its
//! beginning: when a jump is written, all that it skips is there and has been counted.

use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator as Op};

use crate::sys::BpfInstruction;

// linux/bpf_common.h
const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_IF_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const JUMP_IF_GREATER_OR_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

// Offsets in struct seccomp_data, linux/seccomp.h.
const NUMBER_OFFSET: u32 = 0;
const ARCHITECTURE_OFFSET: u32 = 4;
const ARGS_OFFSET: u32 = 16;

/// A program that is being written, the last instruction first.
#[derive(Debug, Default)]
pub(super) struct Backwards(Vec<BpfInstruction>);

impl Backwards {
    /// Room for as many instructions as profiles of the common shape need.
    const USUAL: usize = 512;

    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(Self::USUAL))
    }

    /// The program.
    pub(super) fn finish(mut self) -> Vec<BpfInstruction> {
        self.0.reverse();
        self.0
    }

    fn push(&mut self, code: u16, jump_true: u8, jump_false: u8, k: u32) {
        self.0.push(BpfInstruction { code, jump_true, jump_false, k });
    }

    /// Ends the filter with this `SECCOMP_RET_…` value.
    pub(super) fn ret(&mut self, action: u32) {
        self.push(RETURN, 0, 0, action);
    }

    /// Loads the number of the call for what was written last.
    pub(super) fn load_number(&mut self) {
        self.push(LOAD_WORD, 0, 0, NUMBER_OFFSET);
    }

    /// Runs `then` for calls of this architecture, else `otherwise`. Both must end the filter.
    pub(super) fn if_architecture(
        &mut self,
        audit: u32,
        then: impl FnOnce(&mut Self),
        otherwise: impl FnOnce(&mut Self),
    ) {
        self.branch(JUMP_IF_EQUAL, audit, then, otherwise);
        self.push(LOAD_WORD, 0, 0, ARCHITECTURE_OFFSET);
    }

    /// Finds the segment that the accumulator is in: `segments` are (first number, what to do), ascending from 0, and what
    /// `write` writes for each must end the filter.
    pub(super) fn search<T>(&mut self, segments: &[(u32, T)], write: &impl Fn(&mut Self, &T)) {
        match segments {
            [] => {}
            [(_, only)] => write(self, only),
            _ => {
                let (low, high) = segments.split_at(segments.len() / 2);
                let (above, below) =
                    (|to: &mut Self| to.search(high, write), |to: &mut Self| to.search(low, write));
                self.branch(JUMP_IF_GREATER_OR_EQUAL, high[0].0, above, below);
            }
        }
    }

    fn branch(&mut self, code: u16, k: u32, then: impl FnOnce(&mut Self), otherwise: impl FnOnce(&mut Self)) {
        then(self);
        let after = self.0.len();
        otherwise(self);
        let distance = self.0.len() - after;
        // A conditional jump reaches 255 instructions; an unconditional one reaches everything.
        if let Ok(distance) = u8::try_from(distance) {
            self.push(code, distance, 0, k);
        } else {
            self.push(JUMP, 0, 0, u32::try_from(distance).unwrap_or(u32::MAX));
            self.push(code, 0, 1, k);
        }
    }

    /// Ends the filter with `action` when all `conditions` hold, else goes on with what was written last. There are at most
    /// six conditions, or a jump might not reach.
    pub(super) fn rule(&mut self, conditions: &[LinuxSeccompArg], action: u32) {
        self.ret(action);
        let end = self.0.len();
        for test in conditions.iter().rev().flat_map(|arg| condition(arg).into_iter().rev()) {
            // Everything of the rule that was written so far, and its end.
            let to_end = u8::try_from(self.0.len() - end + 1).unwrap_or(u8::MAX);
            let resolve = |goal: Goal| match goal {
                Goal::Next => 0,
                Goal::Skip(distance) => distance,
                Goal::Fail => to_end,
            };
            self.push(test.code, resolve(test.yes), resolve(test.no), test.k);
        }
    }
}

/// Where a comparison goes on.
#[derive(Clone, Copy)]
enum Goal {
    /// The next instruction.
    Next,
    /// Over so many instructions; used for "this condition holds".
    Skip(u8),
    /// Past the end of the rule.
    Fail,
}

struct Test {
    code: u16,
    k: u32,
    yes: Goal,
    no: Goal,
}

/// A comparison of a 64-bit argument, done in halves because BPF's accumulator has 32 bits.
fn condition(arg: &LinuxSeccompArg) -> Vec<Test> {
    use Goal::{Fail, Next, Skip};
    let index = u32::try_from(arg.index()).unwrap_or(0);
    let low_offset = ARGS_OFFSET + index * 8 + if cfg!(target_endian = "big") { 4 } else { 0 };
    let high_offset = ARGS_OFFSET + index * 8 + if cfg!(target_endian = "big") { 0 } else { 4 };
    let (high, low) = halves(arg.value());
    let load = |offset| Test { code: LOAD_WORD, k: offset, yes: Next, no: Next };
    let test = |code, k, yes, no| Test { code, k, yes, no };
    // After `ordered`'s first test, a higher half decides at once: `above` says how.
    let ordered = |above: Goal, below: Goal, code, yes, no| {
        vec![
            load(high_offset),
            test(JUMP_IF_GREATER, high, above, Next),
            test(JUMP_IF_EQUAL, high, Next, below),
            load(low_offset),
            test(code, low, yes, no),
        ]
    };
    match arg.op() {
        Op::ScmpCmpEq => vec![
            load(high_offset),
            test(JUMP_IF_EQUAL, high, Next, Fail),
            load(low_offset),
            test(JUMP_IF_EQUAL, low, Next, Fail),
        ],
        Op::ScmpCmpNe => vec![
            load(high_offset),
            test(JUMP_IF_EQUAL, high, Next, Skip(2)),
            load(low_offset),
            test(JUMP_IF_EQUAL, low, Fail, Next),
        ],
        Op::ScmpCmpGt => ordered(Skip(3), Fail, JUMP_IF_GREATER, Next, Fail),
        Op::ScmpCmpGe => ordered(Skip(3), Fail, JUMP_IF_GREATER_OR_EQUAL, Next, Fail),
        Op::ScmpCmpLt => ordered(Fail, Skip(2), JUMP_IF_GREATER_OR_EQUAL, Fail, Next),
        Op::ScmpCmpLe => ordered(Fail, Skip(2), JUMP_IF_GREATER, Fail, Next),
        Op::ScmpCmpMaskedEq => {
            let (wanted_high, wanted_low) = halves(arg.value_two().unwrap_or(0));
            vec![
                load(high_offset),
                test(AND, high, Next, Next),
                test(JUMP_IF_EQUAL, wanted_high, Next, Fail),
                load(low_offset),
                test(AND, low, Next, Next),
                test(JUMP_IF_EQUAL, wanted_low, Next, Fail),
            ]
        }
    }
}

fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}

#[cfg(test)]
pub(super) mod interpreter {
    //! Runs a filter as the kernel would, so that tests can ask what it answers.

    use super::*;

    /// What the program returns for a call.
    pub(in crate::seccomp) fn run(
        program: &[BpfInstruction],
        architecture: u32,
        number: u32,
        args: [u64; 6],
    ) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_ne_bytes());
        data.extend(architecture.to_ne_bytes());
        data.extend(0u64.to_ne_bytes());
        args.iter().for_each(|arg| data.extend(arg.to_ne_bytes()));
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let BpfInstruction { code, jump_true, jump_false, k } = program[at];
            at += 1;
            let holds = match code {
                LOAD_WORD => {
                    let k = k as usize;
                    accumulator = u32::from_ne_bytes(data[k..k + 4].try_into().unwrap());
                    continue;
                }
                AND => {
                    accumulator &= k;
                    continue;
                }
                JUMP => {
                    at += k as usize;
                    continue;
                }
                RETURN => return k,
                JUMP_IF_EQUAL => accumulator == k,
                JUMP_IF_GREATER => accumulator > k,
                JUMP_IF_GREATER_OR_EQUAL => accumulator >= k,
                other => panic!("unknown instruction {other:#x}"),
            };
            at += usize::from(if holds { jump_true } else { jump_false });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_finds_every_segment_even_over_long_jumps() {
        let segments: Vec<_> = (0..700).map(|n| (n * 3, n)).collect();
        let mut program = Backwards::new();
        program.search(&segments, &|to, action| to.ret(*action));
        program.load_number();
        let program = program.finish();
        for number in 0..2100 {
            assert_eq!(interpreter::run(&program, 0, number, [0; 6]), number / 3, "{number}");
        }
        assert_eq!(interpreter::run(&program, 0, u32::MAX, [0; 6]), 699);
    }

    #[test]
    fn comparisons_of_64_bit_arguments_agree_with_plain_arithmetic() {
        let values =
            [0, 1, 5, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 0x5_0000_0001, u64::MAX - 1, u64::MAX];
        type Plain = fn(u64, u64) -> bool;
        let ops: [(Op, Plain); 7] = [
            (Op::ScmpCmpEq, |a, b| a == b),
            (Op::ScmpCmpNe, |a, b| a != b),
            (Op::ScmpCmpLt, |a, b| a < b),
            (Op::ScmpCmpLe, |a, b| a <= b),
            (Op::ScmpCmpGt, |a, b| a > b),
            (Op::ScmpCmpGe, |a, b| a >= b),
            (Op::ScmpCmpMaskedEq, |a, b| a & b == 1),
        ];
        for (op, expected) in ops {
            for wanted in values {
                let json = serde_json::json!({"index": 2, "value": wanted, "valueTwo": 1, "op": op});
                let arg: LinuxSeccompArg = serde_json::from_value(json).unwrap();
                let mut program = Backwards::new();
                program.ret(0);
                program.rule(&[arg], 1);
                let program = program.finish();
                for value in values {
                    let got = interpreter::run(&program, 0, 0, [9, 9, value, 9, 9, 9]);
                    assert_eq!(got == 1, expected(value, wanted), "{value:#x} {op:?} {wanted:#x}");
                }
            }
        }
    }
}
