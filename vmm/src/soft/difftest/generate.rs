//! Makes cases: takes the forms in turn and gives them operands, registers, flags and memory.

use iced_x86::{Code, Encoder, Instruction, Mnemonic, OpKind, Register};

use super::case::Case;
use super::forms::{self, Form, Prefix};
use super::layout::{CODE, DATA};
use super::operands::{self, branch_target, number};
use super::random::Random;
use super::{prepare, targets, undefined, vectors};
use crate::soft::cpu::RSP;
use crate::soft::flags::{ARITHMETIC, DF, FIXED, IF};
use crate::soft::mmu::walk::is_canonical;

/// Attempts to give a form operands that can be encoded.
const ATTEMPTS: usize = 1000;
/// Offset of the boundary between the code pages.
const BOUNDARY: u64 = 0x1000;
const STACK: usize = RSP as usize;

/// A source of cases, the same ones for the same seed.
#[derive(Debug)]
pub(super) struct Generator {
    random: Random,
    forms: Vec<Form>,
    /// Forms that work on registers only, may follow any other and leave no flag undefined.
    followers: Vec<Form>,
    next: usize,
}

impl Generator {
    /// Cases of all forms, or of those whose name has one of the words of `only` in it, which `|` separates.
    pub(super) fn new(seed: u64, only: &str) -> Self {
        let mut forms = forms::all();
        let followers = forms.iter().copied().filter(|form| may_follow(*form)).collect();
        forms.retain(|form| only.split('|').any(|word| form.to_string().contains(word)));
        assert!(!forms.is_empty(), "no form is called {only}; they are {:?}", forms::all());
        Self { random: Random::new(seed), forms, followers, next: 0 }
    }

    /// How many forms there are.
    pub(super) fn forms(&self) -> usize {
        self.forms.len()
    }

    /// The next form and a case of it.
    pub(super) fn next(&mut self) -> (Form, Case) {
        let form = self.forms[self.next % self.forms.len()];
        self.next += 1;
        for _ in 0..ATTEMPTS {
            if let Some(case) = self.attempt(form) {
                return (form, case);
            }
        }
        panic!("no operands for {form:?}");
    }

    fn attempt(&mut self, form: Form) -> Option<Case> {
        let random = &mut self.random;
        let mut regs: [u64; 16] = std::array::from_fn(|_| random.operand());
        regs[STACK] = DATA + random.below(0x1000);
        let start = start(random);
        let mut code = Vec::new();
        if random.chance(25) {
            // Flags that are computed late.
            let size = random.pick(&[1, 2, 4, 8]);
            let opcode = match size {
                1 => Code::Cmp_r8_rm8,
                2 => Code::Cmp_r16_rm16,
                4 => Code::Cmp_r32_rm32,
                _ => Code::Cmp_r64_rm64,
            };
            let registers = (operands::register(random, size), operands::register(random, size));
            append(&mut code, start, &Instruction::with2(opcode, registers.0, registers.1).ok()?)?;
        }
        let at = start + code.len() as u64;
        let mut memory = Vec::new();
        let instruction = instruction(form, &mut regs, &mut memory, random, at)?;
        append(&mut code, start, &instruction)?;
        let count = Some(regs[number(Register::RCX)]);
        if undefined::result(&instruction, count) {
            return None;
        }
        let mut undefined = undefined::flags(&instruction, count);
        if undefined == 0 && !is_branch(form.code) {
            for _ in 0..random.below(6).saturating_sub(3) {
                let form = random.pick(&self.followers);
                let mut follower = blank(form);
                operands::fill(&mut follower, form, random, start);
                append(&mut code, start, &follower)?;
                undefined = undefined::flags(&follower, None);
                if undefined != 0 {
                    break;
                }
            }
        }
        let is_near_the_end = regs[STACK].wrapping_sub((1 << 47) - BOUNDARY) < BOUNDARY;
        if !is_canonical(regs[STACK]) || is_near_the_end {
            // KVM without hardware assistance would emulate the code instead of running it.
            return None;
        }
        let flags = random.next() & (ARITHMETIC | DF) | IF | FIXED;
        let vectors = if form.uses_vectors() { values(random) } else { Vec::new() };
        Some(Case { start, code, regs, flags, memory, vectors, undefined })
    }
}

/// Mostly in the first page, sometimes so that the code goes on in the next one, or in the one behind, which is absent.
fn start(random: &mut Random) -> u64 {
    let near_end = random.below(16);
    match random.below(100) {
        0..6 => CODE + BOUNDARY - near_end,
        6..8 => CODE + 2 * BOUNDARY - near_end,
        _ => CODE + 0x100 + random.below(0xd00),
    }
}

/// Values of vector registers.
fn values(random: &mut Random) -> Vec<u128> {
    let len = random.pick(&vectors::LENGTHS);
    let mut word = || u128::from(random.vector_word());
    (0..len).map(|_| word() << 64 | word()).collect()
}

fn blank(form: Form) -> Instruction {
    let mut instruction = Instruction::default();
    instruction.set_code(form.code);
    match form.prefix {
        Prefix::None => {}
        Prefix::Lock => instruction.set_has_lock_prefix(true),
        Prefix::Repeat => instruction.set_has_rep_prefix(true),
        Prefix::RepeatWhileNotEqual => instruction.set_has_repne_prefix(true),
    }
    instruction
}

fn instruction(
    form: Form,
    regs: &mut [u64; 16],
    memory: &mut Vec<(u64, u64)>,
    random: &mut Random,
    at: u64,
) -> Option<Instruction> {
    let mut instruction = blank(form);
    operands::fill(&mut instruction, form, random, at);
    prepare::implicit(&instruction, regs, memory, random, at);
    let explicit =
        form.memory || form.code.op_code().op_kinds().contains(&iced_x86::OpCodeOperandKind::mem_offs);
    if explicit {
        let size = instruction.memory_size().size().max(1) as u64;
        let mut target = targets::linear(random, size);
        // Instructions of AVX mostly do not care.
        let is_vex = form.code.encoding() == iced_x86::EncodingKind::VEX;
        if size >= 16 && random.chance(if is_vex { 50 } else { 95 }) {
            target &= !(size - 1);
        }
        if form.memory {
            operands::address(&mut instruction, regs, random, target);
        } else {
            instruction.set_memory_displ_size(8);
            instruction.set_memory_displacement64(target);
        }
        prepare::content(&instruction, regs, memory, random, target, at);
    }
    let is_direct = instruction.op_kinds().any(|kind| kind == OpKind::NearBranch64);
    if is_branch(form.code) && !explicit && !is_direct && instruction.op_count() == 1 {
        // To what a register holds.
        let register = instruction.op_register(0);
        if register.is_gpr() && random.chance(95) {
            regs[number(register)] = branch_target(random, at, at + 16);
        }
    }
    Some(instruction)
}

fn append(code: &mut Vec<u8>, start: u64, instruction: &Instruction) -> Option<()> {
    let mut encoder = Encoder::new(64);
    encoder.encode(instruction, start + code.len() as u64).ok()?;
    code.extend(encoder.take_buffer());
    Some(())
}

fn is_branch(code: Code) -> bool {
    matches!(code.mnemonic(), Mnemonic::Jmp | Mnemonic::Call | Mnemonic::Ret)
        || code.is_jcc_short_or_near()
        || code.is_loop()
        || code.is_loopcc()
        || code.is_jcx_short()
}

fn may_follow(form: Form) -> bool {
    let info = form.code.op_code();
    let explicit = info.op_kinds().iter().all(|kind| {
        use iced_x86::OpCodeOperandKind::*;
        !matches!(kind, mem | mem_offs | seg_rBX_al | seg_rSI | es_rDI | br64_1 | br64_4)
    });
    let mut instruction = Instruction::default();
    instruction.set_code(form.code);
    explicit
        && !form.memory
        && !form.uses_vectors()
        && !is_branch(form.code)
        && !info.is_stack_instruction()
        && !matches!(info.mnemonic(), Mnemonic::Shld | Mnemonic::Shrd | Mnemonic::Bswap)
}
