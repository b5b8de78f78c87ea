//! What is tested: every encoding that the decoder knows, for 64-bit mode, of the [`super::instructions`]; each with a
//! register and with memory where it has the choice, and with each prefix that it may have.

use std::fmt::{self, Display, Formatter};

use iced_x86::{Code, CpuidFeature, EncodingKind, Mnemonic, OpCodeInfo, OpCodeOperandKind as Kind};

use super::instructions::mnemonics;

/// A prefix that changes what an instruction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefix {
    None,
    Lock,
    Repeat,
    RepeatWhileNotEqual,
}

/// An instruction without its operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) code: Code,
    /// Its operand that can be a register or memory is memory.
    pub(super) memory: bool,
    pub(super) prefix: Prefix,
}

impl Form {
    /// Whether it has an operand that is a vector register.
    pub(super) fn uses_vectors(self) -> bool {
        let clears = matches!(self.code, Code::VEX_Vzeroupper | Code::VEX_Vzeroall);
        clears || self.code.op_code().op_kinds().iter().any(|kind| is_vector(*kind))
    }
}

/// As the manual writes it.
impl Display for Form {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let prefix = match self.prefix {
            Prefix::None => "",
            Prefix::Lock => "lock ",
            Prefix::Repeat => "rep ",
            Prefix::RepeatWhileNotEqual => "repne ",
        };
        let memory = if self.memory { " with memory" } else { "" };
        write!(f, "{prefix}{:?}{memory}", self.code)
    }
}

/// All forms.
pub(super) fn all() -> Vec<Form> {
    let mnemonics = mnemonics();
    let mut forms = Vec::new();
    for code in Code::values().filter(|code| mnemonics.contains(&code.mnemonic())) {
        let info = code.op_code();
        if !is_usable(info) || !is_known_to_host(code) {
            continue;
        }
        let or_memory = info.op_kinds().iter().any(|kind| is_register_or_memory(*kind));
        let only_memory = info.op_kinds().contains(&Kind::mem);
        for memory in [false, true] {
            if memory && !(or_memory || only_memory) || !memory && only_memory {
                continue;
            }
            let mut with = |prefix| forms.push(Form { code, memory, prefix });
            with(Prefix::None);
            if info.can_use_lock_prefix() && memory {
                with(Prefix::Lock);
            }
            if info.can_use_rep_prefix() {
                with(Prefix::Repeat);
            }
            if info.can_use_repne_prefix() {
                with(Prefix::RepeatWhileNotEqual);
            }
        }
    }
    forms
}

/// Whether an operand is either a register or memory.
pub(super) fn is_register_or_memory(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::r8_or_mem
            | Kind::r16_or_mem
            | Kind::r32_or_mem
            | Kind::r64_or_mem
            | Kind::xmm_or_mem
            | Kind::ymm_or_mem
    )
}

fn is_vector(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::xmm_reg
            | Kind::xmm_rm
            | Kind::xmm_or_mem
            | Kind::xmm_vvvv
            | Kind::xmm_is4
            | Kind::ymm_reg
            | Kind::ymm_rm
            | Kind::ymm_or_mem
            | Kind::ymm_vvvv
            | Kind::ymm_is4
    )
}

/// Whether the host's CPU has an instruction.
fn is_known_to_host(code: Code) -> bool {
    code.cpuid_features().iter().all(|feature| match feature {
        CpuidFeature::SSSE3 => is_x86_feature_detected!("ssse3"),
        CpuidFeature::SSE4_1 => is_x86_feature_detected!("sse4.1"),
        CpuidFeature::SSE4_2 => is_x86_feature_detected!("sse4.2"),
        CpuidFeature::AVX => is_x86_feature_detected!("avx"),
        CpuidFeature::AVX2 => is_x86_feature_detected!("avx2"),
        CpuidFeature::BMI1 => is_x86_feature_detected!("bmi1"),
        CpuidFeature::BMI2 => is_x86_feature_detected!("bmi2"),
        _ => true,
    })
}

fn is_usable(info: &OpCodeInfo) -> bool {
    let is_branch = matches!(info.mnemonic(), Mnemonic::Jmp | Mnemonic::Call | Mnemonic::Ret)
        || info.op_kinds().iter().any(|kind| matches!(kind, Kind::br64_1 | Kind::br64_4));
    info.is_instruction()
        && info.mode64()
        && matches!(info.encoding(), EncodingKind::Legacy | EncodingKind::VEX)
        && info.op_kinds().iter().all(|kind| is_supported(*kind))
        // Far.
        && !matches!(info.code(), Code::Jmp_m1632 | Code::Jmp_m1664 | Code::Call_m1632 | Code::Call_m1664)
        // Of the same name as a string instruction.
        && info.code() != Code::Cmpsd_xmm_xmmm64_imm8
        // Nobody makes stack frames of 16-bit pointers.
        && !matches!(info.code(), Code::Enterw_imm16_imm8 | Code::Leavew)
        // Its result is undefined.
        && info.code() != Code::Bswap_r16
        // CPUs disagree about branches with an operand-size prefix.
        && !(is_branch && info.operand_size() == 16)
        // The address-size prefix is of no use in 64-bit mode.
        && !(is_branch && info.address_size() == 32)
}

fn is_supported(kind: Kind) -> bool {
    is_register_or_memory(kind)
        || is_vector(kind)
        || matches!(
            kind,
            Kind::mem
                | Kind::mem_offs
                | Kind::r8_reg
                | Kind::r8_opcode
                | Kind::r16_reg
                | Kind::r16_opcode
                | Kind::r32_reg
                | Kind::r32_opcode
                | Kind::r64_reg
                | Kind::r64_opcode
                | Kind::al
                | Kind::cl
                | Kind::ax
                | Kind::eax
                | Kind::rax
                | Kind::imm8
                | Kind::imm8_const_1
                | Kind::imm8sex16
                | Kind::imm8sex32
                | Kind::imm8sex64
                | Kind::imm16
                | Kind::imm32
                | Kind::imm32sex64
                | Kind::imm64
                | Kind::seg_rBX_al
                | Kind::seg_rSI
                | Kind::es_rDI
                | Kind::br64_1
                | Kind::br64_4
                | Kind::r32_vvvv
                | Kind::r64_vvvv
        )
}

#[test]
fn every_instruction_has_forms() {
    let forms = all();
    for mnemonic in mnemonics() {
        let is_known = |code: &Code| code.mnemonic() == mnemonic && is_known_to_host(*code);
        let has_forms = forms.iter().any(|form| form.code.mnemonic() == mnemonic);
        assert!(has_forms || !Code::values().any(|code| is_known(&code)), "{mnemonic:?} has none");
    }
    assert!(forms.len() >= 200, "only {} forms", forms.len());
}
