//! System calls: syscall, sysret (AMD APM volume 3; Intel SDM volume 2B). SYSENTER and SYSEXIT are invalid, as in long mode
//! on CPUs of AMD.

use iced_x86::{Code, Instruction};
use kvm_bindings::kvm_segment;

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::{Cpu, R11, RCX};
use super::super::super::flags::{AC, ID};
use super::super::super::flags::{ARITHMETIC, DF, IF, IOPL, NT, RF, TF};
use super::super::super::mmu::walk::is_canonical;
use super::super::super::step::{Exception, Step, Stop};
use crate::cpu::control_bits::EFER_SCE;
use crate::cpu::registers::{TYPE_CODE, TYPE_DATA, flat_segment};

/// Flags besides the arithmetic ones that exist: what SYSRET loads.
const OTHER_FLAGS: u64 = TF | IF | DF | IOPL | NT | AC | ID | 3 << 19;

fn require_system_calls(cpu: &mut Cpu) -> Step {
    if cpu.mmu.paging.efer & EFER_SCE == 0 {
        return cpu.raise(Exception::INVALID_OPCODE);
    }
    Ok(())
}

/// Part of STAR: the selector from bit `first`.
fn selector(cpu: &Cpu, first: u32) -> u16 {
    let [a, b, ..] = (cpu.system.msrs.star >> first).to_le_bytes();
    u16::from_le_bytes([a, b])
}

fn syscall(cpu: &mut Cpu, op: &Op) -> Step {
    require_system_calls(cpu)?;
    let flags = cpu.flags.get();
    cpu.set::<u64>(RCX, op.next_rip(cpu));
    cpu.set::<u64>(R11, flags & !RF);
    let mask = cpu.system.msrs.fmask | RF;
    cpu.flags.set(flags & !mask);
    let code = selector(cpu, 32) & !3;
    cpu.sregs.cs = flat_segment(code, TYPE_CODE, true);
    cpu.sregs.ss = flat_segment(code.wrapping_add(8), TYPE_DATA, false);
    cpu.user = false;
    cpu.rip = cpu.system.msrs.lstar;
    Err(Stop::Done)
}

fn sysret<const LONG: bool>(cpu: &mut Cpu, _: &Op) -> Step {
    require_system_calls(cpu)?;
    cpu.require_kernel()?;
    let target = cpu.regs[usize::from(RCX)];
    if LONG && !is_canonical(target) {
        return cpu.protection();
    }
    cpu.flags.set(cpu.regs[usize::from(R11)] & (ARITHMETIC | OTHER_FLAGS));
    let base = selector(cpu, 48);
    let code = if LONG { base.wrapping_add(16) } else { base };
    let of_programs = |segment| kvm_segment { dpl: 3, ..segment };
    cpu.sregs.cs = of_programs(flat_segment(code | 3, TYPE_CODE, LONG));
    cpu.sregs.ss = of_programs(flat_segment(base.wrapping_add(8) | 3, TYPE_DATA, false));
    cpu.user = true;
    cpu.rip = if LONG { target } else { target & u64::from(u32::MAX) };
    Err(Stop::Done)
}

fn invalid(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.raise(Exception::INVALID_OPCODE)
}

pub(super) fn translate(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    match instruction.code() {
        Code::Syscall => Some(syscall),
        Code::Sysretq => Some(sysret::<true>),
        Code::Sysretd => Some(sysret::<false>),
        Code::Sysenter | Code::Sysexitd | Code::Sysexitq => Some(invalid),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::flags::{CF, FIXED, ZF};
    use super::super::super::super::testing::CODE;
    use super::super::super::super::testing::tables::{
        KERNEL_CODE, KERNEL_DATA, USER_CODE, USER_CODE_32, USER_DATA, enter_ring3, run_badly, run_one,
    };
    use super::*;

    const SYSCALL: &[u8] = &[0x0f, 0x05];
    const SYSRETQ: &[u8] = &[0x48, 0x0f, 0x07];
    const SYSRETD: &[u8] = &[0x0f, 0x07];

    /// As Linux sets them up.
    fn set_up(cpu: &mut Cpu) {
        cpu.mmu.paging.efer |= EFER_SCE;
        cpu.system.msrs.star = u64::from(USER_CODE_32) << 48 | u64::from(KERNEL_CODE) << 32;
        cpu.system.msrs.lstar = 0xffff_8000_0000_2000;
        cpu.system.msrs.fmask = TF | IF | DF;
    }

    #[test]
    fn syscall_enters_the_kernel_where_its_registers_say() {
        let (cpu, result) = run_one(SYSCALL, |cpu| {
            set_up(cpu);
            enter_ring3(cpu);
            cpu.flags.set(IF | CF | DF);
        });
        assert_eq!((result, cpu.rip, cpu.user), (Err(Stop::Done), 0xffff_8000_0000_2000, false));
        assert_eq!(cpu.regs[usize::from(RCX)], CODE + 2);
        assert_eq!(cpu.regs[usize::from(R11)], IF | CF | DF | FIXED);
        assert_eq!(cpu.flags.get(), CF | FIXED);
        assert_eq!((cpu.sregs.cs.selector, cpu.sregs.cs.l, cpu.sregs.cs.dpl), (KERNEL_CODE, 1, 0));
        assert_eq!((cpu.sregs.ss.selector, cpu.sregs.ss.dpl), (KERNEL_DATA, 0));
    }

    #[test]
    fn sysret_returns_to_programs() {
        for (code, rip, selector, long) in
            [(SYSRETQ, 0x1_2345_6789, USER_CODE, 1), (SYSRETD, 0x2345_6789, USER_CODE_32, 0)]
        {
            let (cpu, result) = run_one(code, |cpu| {
                set_up(cpu);
                cpu.regs[usize::from(RCX)] = 0x1_2345_6789;
                cpu.regs[usize::from(R11)] = !0;
            });
            assert_eq!((result, cpu.rip, cpu.user), (Err(Stop::Done), rip, true));
            assert_eq!((cpu.sregs.cs.selector, cpu.sregs.cs.l, cpu.sregs.cs.dpl), (selector, long, 3));
            assert_eq!((cpu.sregs.ss.selector, cpu.sregs.ss.dpl), (USER_DATA, 3));
            assert_eq!(cpu.flags.get(), 0x3c_7fd7, "all but RF, VM and what does not exist");
        }
        let (cpu, _) = run_one(SYSRETQ, |cpu| {
            set_up(cpu);
            cpu.regs[usize::from(R11)] = ZF;
        });
        assert_eq!(cpu.flags.get(), ZF | FIXED);
    }

    #[test]
    fn they_are_refused_where_the_manual_says() {
        for code in [SYSCALL, SYSRETQ, SYSRETD] {
            assert_eq!(run_badly(code, |_| {}), (6, None), "{code:x?} without EFER.SCE");
        }
        let in_ring3 = run_badly(SYSRETQ, |cpu| {
            set_up(cpu);
            enter_ring3(cpu);
        });
        let to_nowhere = run_badly(SYSRETQ, |cpu| {
            set_up(cpu);
            cpu.regs[usize::from(RCX)] = 1 << 47;
        });
        assert_eq!((in_ring3, to_nowhere), ((13, Some(0)), (13, Some(0))));
        assert_eq!(run_badly(&[0x0f, 0x34], |_| {}), (6, None), "sysenter");
    }
}
