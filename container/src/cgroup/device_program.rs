//! Device rules on v2: an eBPF program that the kernel asks at each use of a device (BPF_PROG_TYPE_CGROUP_DEVICE).

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use super::CgroupError;
use super::devices::{Access, DeviceRule, RuleKind};
use crate::sys::{EbpfInstruction, replace_device_program};

// linux/bpf.h
const LOAD_CONTEXT_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const MOVE_REGISTER: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const AND: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x77; // BPF_ALU64 | BPF_RSH | BPF_K
const JUMP_IF_NOT_EQUAL: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const JUMP_IF_EQUAL: u8 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

/// Registers: the answer, the context, what was asked for, and room to compute.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

/// Attaches the rules to the v2 group in `dir`, in place of those it has. Programs of groups above it still apply as
/// well.
pub(super) fn attach(dir: &Path, rules: &[DeviceRule]) -> Result<(), CgroupError> {
    let refused = |source| CgroupError::Devices { dir: dir.to_owned(), source };
    let group = File::open(dir).map_err(refused)?;
    replace_device_program(group.as_fd(), &program(rules)).map_err(|errno| refused(io::Error::from(errno)))
}

/// The program: the rules from last to first, each answering when it matches.
fn program(rules: &[DeviceRule]) -> Vec<EbpfInstruction> {
    // struct bpf_cgroup_dev_ctx: (access << 16 | kind), major, minor.
    let mut program = vec![
        op(LOAD_CONTEXT_WORD, KIND, CONTEXT, 0, 0),
        op(MOVE_REGISTER, ACCESS, KIND, 0, 0),
        op(AND, KIND, 0, 0, 0xffff),
        op(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        op(LOAD_CONTEXT_WORD, MAJOR, CONTEXT, 4, 0),
        op(LOAD_CONTEXT_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        program.extend(rule_piece(rule));
        if rule.kind == RuleKind::All {
            // It matches everything: earlier rules are never asked, and the kernel refuses unreachable code.
            return program;
        }
    }
    program.extend(answer(true));
    program
}

fn rule_piece(rule: &DeviceRule) -> Vec<EbpfInstruction> {
    let mut tests = Vec::new();
    let kind = match rule.kind {
        RuleKind::All => return answer(rule.allow).to_vec(),
        RuleKind::Block => 1,
        RuleKind::Character => 2,
    };
    tests.push((JUMP_IF_NOT_EQUAL, KIND, kind));
    for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        if let Some(number) = number {
            tests.push((JUMP_IF_NOT_EQUAL, register, number.cast_signed()));
        }
    }
    let mut piece: Vec<_> =
        tests.into_iter().map(|(code, register, k)| op(code, register, 0, 0, k)).collect();
    let mask = access_mask(rule.access);
    piece.push(op(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0));
    if rule.allow {
        // All that is asked for must be granted …
        piece.push(op(AND, SCRATCH, 0, 0, !mask));
        piece.push(op(JUMP_IF_NOT_EQUAL, SCRATCH, 0, 0, 0));
    } else {
        // … and nothing of it be forbidden.
        piece.push(op(AND, SCRATCH, 0, 0, mask));
        piece.push(op(JUMP_IF_EQUAL, SCRATCH, 0, 0, 0));
    }
    piece.extend(answer(rule.allow));
    let length = piece.len();
    for (at, instruction) in piece.iter_mut().enumerate() {
        if matches!(instruction.code, JUMP_IF_EQUAL | JUMP_IF_NOT_EQUAL) {
            instruction.offset = i16::try_from(length - at - 1).unwrap_or(i16::MAX);
        }
    }
    piece
}

fn answer(allow: bool) -> [EbpfInstruction; 2] {
    [op(MOVE, ANSWER, 0, 0, i32::from(allow)), op(EXIT, 0, 0, 0, 0)]
}

/// `BPF_DEVCG_ACC_…`.
fn access_mask(access: Access) -> i32 {
    i32::from(access.mknod) | i32::from(access.read) << 1 | i32::from(access.write) << 2
}

fn op(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> EbpfInstruction {
    EbpfInstruction { code, registers: from << 4 | to, offset, immediate }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Access = Access { read: true, write: true, mknod: true };
    const READ: Access = Access { read: true, write: false, mknod: false };

    /// Runs the program as the kernel would.
    fn ask(rules: &[DeviceRule], kind: u64, access: Access, major: u64, minor: u64) -> bool {
        let program = program(rules);
        let context = [(access_mask(access) as u64) << 16 | kind, major, minor];
        let (mut registers, mut at) = ([0u64; 10], 0);
        loop {
            let EbpfInstruction { code, registers: both, offset, immediate } = program[at];
            let (to, from) = (usize::from(both & 15), usize::from(both >> 4));
            let k = i64::from(immediate).cast_unsigned();
            at += 1;
            match code {
                LOAD_CONTEXT_WORD => registers[to] = context[usize::try_from(offset).unwrap() / 4],
                MOVE => registers[to] = k,
                MOVE_REGISTER => registers[to] = registers[from],
                AND => registers[to] &= k,
                SHIFT_RIGHT => registers[to] >>= k,
                JUMP_IF_EQUAL if registers[to] == k => at += usize::try_from(offset).unwrap(),
                JUMP_IF_NOT_EQUAL if registers[to] != k => at += usize::try_from(offset).unwrap(),
                JUMP_IF_EQUAL | JUMP_IF_NOT_EQUAL => {}
                EXIT => return registers[0] == 1,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    fn rule(allow: bool, kind: RuleKind, major: Option<u32>, access: Access) -> DeviceRule {
        DeviceRule { allow, kind, major, minor: None, access }
    }

    #[test]
    fn the_last_rule_that_matches_counts() {
        let rules = [
            rule(false, RuleKind::All, None, ALL),
            rule(true, RuleKind::Character, Some(1), ALL),
            rule(false, RuleKind::Character, Some(1), Access { read: false, ..ALL }),
        ];
        assert!(ask(&rules, 2, READ, 1, 3));
        assert!(!ask(&rules, 2, ALL, 1, 3), "writing was taken away again");
        assert!(!ask(&rules, 1, READ, 1, 3), "a block device");
        assert!(!ask(&rules, 2, READ, 2, 3), "another major number");
    }

    #[test]
    fn without_a_rule_that_matches_everything_is_open() {
        assert!(ask(&[], 1, ALL, 8, 0));
        assert!(ask(&[rule(false, RuleKind::Block, Some(8), ALL)], 2, ALL, 8, 0));
    }
}
