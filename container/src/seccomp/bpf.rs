//! Writes classic BPF for seccomp: loads, comparisons, a binary search, returns.
//!
//! Jumps are relative and forward only, so a piece of program can be put anywhere; pieces are vectors that are
//! joined end to end.

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

/// A piece of a program.
pub(super) type Piece = Vec<BpfInstruction>;

fn instruction(code: u16, jump_true: u8, jump_false: u8, k: u32) -> BpfInstruction {
    BpfInstruction { code, jump_true, jump_false, k }
}

/// Ends the filter with this `SECCOMP_RET_…` value.
pub(super) fn ret(action: u32) -> Piece {
    vec![instruction(RETURN, 0, 0, action)]
}

/// `then` when the accumulator is at least `threshold`, else `otherwise`. Both must end the filter.
pub(super) fn if_at_least(threshold: u32, then: Piece, otherwise: Piece) -> Piece {
    branch(JUMP_IF_GREATER_OR_EQUAL, threshold, then, otherwise)
}

/// Runs `then` for calls of this architecture, else `otherwise`. Both must end the filter.
pub(super) fn if_architecture(audit: u32, then: Piece, otherwise: Piece) -> Piece {
    let mut piece = vec![instruction(LOAD_WORD, 0, 0, ARCHITECTURE_OFFSET)];
    piece.extend(branch(JUMP_IF_EQUAL, audit, then, otherwise));
    piece
}

/// Loads the number of the call and goes on with `rest`.
pub(super) fn with_number(rest: Piece) -> Piece {
    let mut piece = vec![instruction(LOAD_WORD, 0, 0, NUMBER_OFFSET)];
    piece.extend(rest);
    piece
}

fn branch(code: u16, k: u32, then: Piece, otherwise: Piece) -> Piece {
    // A conditional jump reaches 255 instructions; an unconditional one reaches everything.
    let mut piece = match u8::try_from(otherwise.len()) {
        Ok(distance) => vec![instruction(code, distance, 0, k)],
        Err(_) => {
            let distance = u32::try_from(otherwise.len()).unwrap_or(u32::MAX);
            vec![instruction(code, 0, 1, k), instruction(JUMP, 0, 0, distance)]
        }
    };
    piece.extend(otherwise);
    piece.extend(then);
    piece
}

/// Finds the segment that the accumulator is in: `segments` are (first number, what to do), ascending from 0, and
/// each piece must end the filter.
pub(super) fn search(segments: &[(u32, Piece)]) -> Piece {
    match segments {
        [] => Piece::new(),
        [(_, only)] => only.clone(),
        _ => {
            let (low, high) = segments.split_at(segments.len() / 2);
            if_at_least(high[0].0, search(high), search(low))
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

/// Ends the filter with `action` when all `conditions` hold, else falls out of its end.
pub(super) fn rule(conditions: &[LinuxSeccompArg], action: u32) -> Piece {
    let tests: Vec<Test> = conditions.iter().flat_map(condition).collect();
    let length = tests.len() + 1;
    let resolve = |goal: Goal, position: usize| match goal {
        Goal::Next => 0,
        Goal::Skip(distance) => distance,
        // At most six conditions of six instructions each.
        Goal::Fail => u8::try_from(length - position - 1).unwrap_or(u8::MAX),
    };
    tests
        .iter()
        .enumerate()
        .map(|(at, test)| instruction(test.code, resolve(test.yes, at), resolve(test.no, at), test.k))
        .chain(ret(action))
        .collect()
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
        let segments: Vec<_> = (0..700).map(|n| (n * 3, ret(n))).collect();
        let program = with_number(search(&segments));
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
                let mut program = rule(&[arg], 1);
                program.extend(ret(0));
                for value in values {
                    let got = interpreter::run(&program, 0, 0, [9, 9, value, 9, 9, 9]);
                    assert_eq!(got == 1, expected(value, wanted), "{value:#x} {op:?} {wanted:#x}");
                }
            }
        }
    }
}
