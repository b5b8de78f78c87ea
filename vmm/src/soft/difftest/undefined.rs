//! What the manual (Intel SDM volume 2, AMD APM volume 3) leaves undefined.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use crate::soft::flags::{AF, ARITHMETIC, CF, NT, OF, PF, SF, ZF};

/// The flags that are undefined after `instruction`. `count` is what CL holds before it, if that is known.
pub(super) fn flags(instruction: &Instruction, count: Option<u64>) -> u64 {
    match instruction.mnemonic() {
        // Not undefined, but a KVM without hardware assistance loses it when it has to look after a page.
        Mnemonic::Popfq => NT,
        Mnemonic::And | Mnemonic::Or | Mnemonic::Xor | Mnemonic::Test => AF,
        Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc => OF | SF | AF | PF,
        Mnemonic::Bsf | Mnemonic::Bsr => CF | OF | SF | AF | PF,
        Mnemonic::Tzcnt | Mnemonic::Lzcnt => OF | SF | AF | PF,
        Mnemonic::Andn | Mnemonic::Blsi | Mnemonic::Blsmsk | Mnemonic::Blsr | Mnemonic::Bzhi => AF | PF,
        Mnemonic::Bextr => SF | AF | PF,
        Mnemonic::Mul | Mnemonic::Imul => SF | ZF | AF | PF,
        Mnemonic::Div | Mnemonic::Idiv => CF | OF | SF | ZF | AF | PF,
        Mnemonic::Shl | Mnemonic::Shr | Mnemonic::Sar | Mnemonic::Shld | Mnemonic::Shrd => {
            shift(instruction, count)
        }
        Mnemonic::Rol | Mnemonic::Ror | Mnemonic::Rcl | Mnemonic::Rcr => {
            if masked_count(instruction, count) == Some(1) { 0 } else { OF }
        }
        _ => 0,
    }
}

/// The flags that are undefined when `instruction` has faulted.
pub(super) fn flags_at_fault(instruction: &Instruction) -> u64 {
    let compares = is_comparison(instruction.code());
    let repeats = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    // Intel's restore what they were, AMD's show the last comparison.
    if compares && repeats { ARITHMETIC } else { 0 }
}

/// Whether it is undefined which of two operands faults, if both do.
pub(super) fn fault(instruction: &Instruction) -> bool {
    is_comparison(instruction.code())
        && instruction.op_count() == 2
        && instruction.op_kind(0) != OpKind::Register
        && instruction.op_kind(1) != OpKind::Register
}

fn is_comparison(code: Code) -> bool {
    matches!(
        code,
        Code::Cmpsb_m8_m8
            | Code::Cmpsw_m16_m16
            | Code::Cmpsd_m32_m32
            | Code::Cmpsq_m64_m64
            | Code::Scasb_AL_m8
            | Code::Scasw_AX_m16
            | Code::Scasd_EAX_m32
            | Code::Scasq_RAX_m64
    )
}

fn shift(instruction: &Instruction, count: Option<u64>) -> u64 {
    let bits = bits(instruction);
    let of_carry = if instruction.mnemonic() == Mnemonic::Sar { 0 } else { CF };
    match masked_count(instruction, count) {
        None => AF | OF | of_carry,
        Some(0) => 0,
        Some(1) => AF,
        Some(count) if count >= bits => AF | OF | of_carry,
        Some(_) => AF | OF,
    }
}

/// Whether the result itself is undefined.
pub(super) fn result(instruction: &Instruction, count: Option<u64>) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Shld | Mnemonic::Shrd => {
            masked_count(instruction, count).is_none_or(|count| count > bits(instruction))
        }
        _ => false,
    }
}

/// Size of the first operand.
fn bits(instruction: &Instruction) -> u64 {
    let bytes = match instruction.op_kind(0) {
        OpKind::Register => instruction.op_register(0).size(),
        _ => instruction.memory_size().size(),
    };
    8 * bytes as u64
}

fn masked_count(instruction: &Instruction, count: Option<u64>) -> Option<u64> {
    let last = instruction.op_count() - 1;
    let count = match instruction.op_kind(last) {
        OpKind::Register => count?,
        _ => instruction.immediate(last),
    };
    Some(count & if bits(instruction) == 64 { 63 } else { 31 })
}
