//! Condition codes in instructions.

use iced_x86::{ConditionCode, Instruction};

/// The number of an instruction's condition code, as its opcode has it; `None` if it has none.
pub(super) fn number(instruction: &Instruction) -> Option<u8> {
    Some(match instruction.condition_code() {
        ConditionCode::None => return None,
        ConditionCode::o => 0,
        ConditionCode::no => 1,
        ConditionCode::b => 2,
        ConditionCode::ae => 3,
        ConditionCode::e => 4,
        ConditionCode::ne => 5,
        ConditionCode::be => 6,
        ConditionCode::a => 7,
        ConditionCode::s => 8,
        ConditionCode::ns => 9,
        ConditionCode::p => 10,
        ConditionCode::np => 11,
        ConditionCode::l => 12,
        ConditionCode::ge => 13,
        ConditionCode::le => 14,
        ConditionCode::g => 15,
    })
}

/// Picks the instance of a handler for a condition: `conditional!(number, C => handler::<C>)`.
macro_rules! conditional {
    ($number:expr, $condition:ident => $handler:expr) => {
        conditional!(@ $number, $condition, $handler, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $number:expr, $condition:ident, $handler:expr, $($value:literal)*) => {
        match $number {
            $($value => {
                const $condition: u8 = $value;
                $handler
            })*
            _ => return None,
        }
    };
}
pub(super) use conditional;
