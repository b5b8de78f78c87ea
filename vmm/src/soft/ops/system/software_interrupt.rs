//! Interrupts by instruction: int n, int3, int1.

use iced_x86::{Code, Instruction};

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::Cpu;
use super::super::super::delivery::Delivery;
use super::super::super::step::{Exception, Step, Stop};

fn enter(cpu: &mut Cpu, op: &Op, vector: u8, by_number: bool) -> Step {
    let back = op.next_rip(cpu);
    cpu.enter_handler(&Delivery { vector, error_code: None, by_number, is_fault: false, back })?;
    Err(Stop::Done)
}

fn interrupt(cpu: &mut Cpu, op: &Op) -> Step {
    enter(cpu, op, op.imm.to_le_bytes()[0], true)
}

fn breakpoint(cpu: &mut Cpu, op: &Op) -> Step {
    enter(cpu, op, Exception::BREAKPOINT.vector, true)
}

/// INT1 counts as raised by the CPU: no gate forbids it.
fn debug(cpu: &mut Cpu, op: &Op) -> Step {
    enter(cpu, op, Exception::DEBUG.vector, false)
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    match instruction.code() {
        Code::Int_imm8 => {
            op.imm = instruction.immediate8().into();
            Some(interrupt)
        }
        Code::Int3 => Some(breakpoint),
        Code::Int1 => Some(debug),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::testing::CODE;
    use super::super::super::super::testing::tables::{
        ABSENT_VECTOR, HANDLERS, TRAP_VECTOR, USER_VECTOR, enter_ring3, run_badly, run_one, stack,
    };
    use super::*;

    #[test]
    fn the_handler_returns_behind_the_instruction() {
        for (code, vector) in [(&[0xcd, 0x81][..], TRAP_VECTOR), (&[0xcc], 3), (&[0xf1], 1)] {
            let (mut cpu, result) = run_one(code, |_| {});
            assert_eq!((result, cpu.rip), (Err(Stop::Done), HANDLERS + 16 * u64::from(vector)), "{code:x?}");
            assert_eq!(stack::<1>(&mut cpu), [CODE + code.len() as u64], "{code:x?}");
        }
    }

    #[test]
    fn programs_use_only_gates_that_are_theirs() {
        let (cpu, result) = run_one(&[0xcd, USER_VECTOR], enter_ring3);
        assert_eq!((result, cpu.user), (Err(Stop::Done), false));
        assert_eq!(run_badly(&[0xcd, TRAP_VECTOR], enter_ring3), (13, Some(0x81 * 8 + 2)));
        assert_eq!(run_badly(&[0xcc], enter_ring3), (13, Some(3 * 8 + 2)));
        let (cpu, result) = run_one(&[0xf1], enter_ring3);
        assert_eq!((result, cpu.user), (Err(Stop::Done), false));
    }

    #[test]
    fn without_a_gate_the_instruction_faults() {
        assert_eq!(run_badly(&[0xcd, ABSENT_VECTOR], |_| {}), (11, Some(0x83 * 8 + 2)));
        assert_eq!(run_badly(&[0xcd, 0x90], |cpu| cpu.sregs.idt.limit = 0x90e), (13, Some(0x90 * 8 + 2)));
    }
}
