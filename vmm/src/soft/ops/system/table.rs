//! Where the descriptor tables are: lgdt, lidt, sgdt, sidt, lldt, ltr, sldt, str (Intel SDM volume 3A, section 2.4).

use iced_x86::{Code, Instruction, OpKind};
use kvm_bindings::kvm_dtable;

use super::super::super::code::op::{Handler, Op};
use super::super::super::code::operands;
use super::super::super::cpu::Cpu;
use super::super::super::descriptors::{TSS_BUSY, TYPE_LDT, TYPE_TSS, in_error, is_null, null_segment};
use super::super::super::mmu::walk::is_canonical;
use super::super::super::step::{Exception, Step};
use super::super::super::word::Word;

/// Bit of a selector: in the local table.
const LOCAL: u16 = 4;

/// Picks the handler that stores what `$value` reads from the CPU: the whole of it to a register of its size, the low 16
/// bits to memory.
macro_rules! store_word {
    ($instruction:expr, $op:expr, $value:path) => {{
        fn to_register<T: $crate::soft::word::Word>(cpu: &mut Cpu, op: &Op) -> Step {
            let value = $value(cpu);
            cpu.set::<T>(op.dst, value);
            Ok(())
        }
        fn to_memory(cpu: &mut Cpu, op: &Op) -> Step {
            let value = $value(cpu);
            cpu.write::<u16>(op.address(cpu), value)
        }
        if $instruction.op_kind(0) == OpKind::Memory {
            operands::memory($instruction, $op)?;
            Some(to_memory as Handler)
        } else {
            operands::dst($instruction, 0, $op)?;
            let size = operands::size($instruction, 0);
            Some(operands::sized!(size, T => to_register::<T> as Handler))
        }
    }};
}
pub(super) use store_word;

fn load_table(cpu: &mut Cpu, op: &Op) -> Step<kvm_dtable> {
    cpu.require_kernel()?;
    let address = op.address(cpu);
    let limit = cpu.read::<u16>(address)?;
    let base = cpu.read::<u64>(address.wrapping_add(2))?;
    if !is_canonical(base) {
        return cpu.protection();
    }
    Ok(kvm_dtable { base, limit: u16::truncate(limit), padding: [0; 3] })
}

fn load_global(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.sregs.gdt = load_table(cpu, op)?;
    Ok(())
}

fn load_interrupt(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.sregs.idt = load_table(cpu, op)?;
    Ok(())
}

fn store_table(cpu: &mut Cpu, op: &Op, table: kvm_dtable) -> Step {
    let address = op.address(cpu);
    cpu.write::<u64>(address.wrapping_add(2), table.base)?;
    cpu.write::<u16>(address, table.limit.into())
}

fn store_global(cpu: &mut Cpu, op: &Op) -> Step {
    store_table(cpu, op, cpu.sregs.gdt)
}

fn store_interrupt(cpu: &mut Cpu, op: &Op) -> Step {
    store_table(cpu, op, cpu.sregs.idt)
}

fn load_local(cpu: &mut Cpu, selector: u16) -> Step {
    if is_null(selector) {
        cpu.sregs.ldt = null_segment(selector);
        return Ok(());
    }
    cpu.sregs.ldt = system_segment(cpu, selector, TYPE_LDT)?;
    Ok(())
}

fn load_task(cpu: &mut Cpu, selector: u16) -> Step {
    if is_null(selector) {
        return cpu.protection();
    }
    let segment = system_segment(cpu, selector, TYPE_TSS)?;
    cpu.sregs.tr = kvm_bindings::kvm_segment { type_: TYPE_TSS | TSS_BUSY, ..segment };
    Ok(())
}

/// The system segment `selector` of a type, marked as in use if that is one of tasks.
fn system_segment(cpu: &mut Cpu, selector: u16, type_: u8) -> Step<kvm_bindings::kvm_segment> {
    let error_code = in_error(selector);
    let found = if selector & LOCAL == 0 { cpu.descriptor(selector)? } else { None };
    let Some(found) = found else { return cpu.raise(Exception::general_protection(error_code)) };
    let upper = cpu.upper_base(selector, found)?;
    let descriptor = found.descriptor;
    let base = upper.map(|upper| upper | u64::from(descriptor.base())).filter(|base| is_canonical(*base));
    let (Some(base), false, true) = (base, descriptor.is_segment(), descriptor.type_() == type_) else {
        return cpu.raise(Exception::general_protection(error_code));
    };
    if !descriptor.is_present() {
        return cpu.raise(Exception::not_present(error_code));
    }
    if type_ == TYPE_TSS {
        cpu.mark_descriptor(found, TSS_BUSY)?;
    }
    Ok(kvm_bindings::kvm_segment { base, ..descriptor.load(selector) })
}

fn load_from_reg(cpu: &mut Cpu, op: &Op, load: fn(&mut Cpu, u16) -> Step) -> Step {
    cpu.require_kernel()?;
    let selector = u16::truncate(cpu.get::<u16>(op.dst));
    load(cpu, selector)
}

fn load_from_mem(cpu: &mut Cpu, op: &Op, load: fn(&mut Cpu, u16) -> Step) -> Step {
    cpu.require_kernel()?;
    let selector = u16::truncate(cpu.read::<u16>(op.address(cpu))?);
    load(cpu, selector)
}

fn load_local_reg(cpu: &mut Cpu, op: &Op) -> Step {
    load_from_reg(cpu, op, load_local)
}

fn load_local_mem(cpu: &mut Cpu, op: &Op) -> Step {
    load_from_mem(cpu, op, load_local)
}

fn load_task_reg(cpu: &mut Cpu, op: &Op) -> Step {
    load_from_reg(cpu, op, load_task)
}

fn load_task_mem(cpu: &mut Cpu, op: &Op) -> Step {
    load_from_mem(cpu, op, load_task)
}

fn local(cpu: &Cpu) -> u64 {
    cpu.sregs.ldt.selector.into()
}

fn task(cpu: &Cpu) -> u64 {
    cpu.sregs.tr.selector.into()
}

pub(super) fn translate(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let code = instruction.code();
    let of_table: Handler = match code {
        Code::Lgdt_m1664 => load_global,
        Code::Lidt_m1664 => load_interrupt,
        Code::Sgdt_m1664 => store_global,
        Code::Sidt_m1664 => store_interrupt,
        Code::Sldt_rm16 | Code::Sldt_r32m16 | Code::Sldt_r64m16 => {
            return store_word!(instruction, op, local);
        }
        Code::Str_rm16 | Code::Str_r32m16 | Code::Str_r64m16 => return store_word!(instruction, op, task),
        Code::Lldt_rm16 | Code::Lldt_r32m16 | Code::Lldt_r64m16 => {
            return selector(instruction, op, load_local_reg, load_local_mem);
        }
        Code::Ltr_rm16 | Code::Ltr_r32m16 | Code::Ltr_r64m16 => {
            return selector(instruction, op, load_task_reg, load_task_mem);
        }
        _ => return None,
    };
    operands::memory(instruction, op)?;
    Some(of_table)
}

fn selector(instruction: &Instruction, op: &mut Op, from_reg: Handler, from_mem: Handler) -> Option<Handler> {
    if instruction.op_kind(0) == OpKind::Memory {
        operands::memory(instruction, op)?;
        return Some(from_mem);
    }
    operands::dst(instruction, 0, op)?;
    Some(from_reg)
}

#[cfg(test)]
mod tests {
    use super::super::super::super::cpu::RAX;
    use super::super::super::super::testing::DATA;
    use super::super::super::super::testing::tables::{
        GDT, IDLE_TASK, KERNEL_CODE, LOCAL_TABLE, TASK, TSS, enter_ring3, run_badly, run_well,
    };
    use super::*;

    const AX: usize = RAX as usize;
    const LLDT: &[u8] = &[0x0f, 0x00, 0xd0];
    const LTR: &[u8] = &[0x0f, 0x00, 0xd8];

    #[test]
    fn tables_are_loaded_and_stored() {
        // lgdt [rax], lidt [rax]; sgdt [rax], sidt [rax]
        for (load, store) in
            [([0x0f, 0x01, 0x10], [0x0f, 0x01, 0x00]), ([0x0f, 0x01, 0x18], [0x0f, 0x01, 0x08])]
        {
            let mut cpu = run_well(&load, |cpu| {
                cpu.regs[AX] = DATA;
                cpu.write::<u16>(DATA, 0x7f).unwrap();
                cpu.write::<u64>(DATA + 2, 0xffff_8000_1234_5678).unwrap();
            });
            let sregs = cpu.sregs;
            cpu = run_well(&store, |new| (new.sregs, new.regs[AX]) = (sregs, DATA));
            assert_eq!(cpu.read::<u16>(DATA), Ok(0x7f), "{load:x?}");
            assert_eq!(cpu.read::<u64>(DATA + 2), Ok(0xffff_8000_1234_5678), "{load:x?}");
        }
    }

    #[test]
    fn a_table_cannot_be_where_no_address_is() {
        for code in [[0x0f, 0x01, 0x10], [0x0f, 0x01, 0x18]] {
            let raised = run_badly(&code, |cpu| {
                cpu.regs[AX] = DATA;
                cpu.write::<u64>(DATA + 2, 1 << 50).unwrap();
            });
            assert_eq!(raised, (13, Some(0)), "{code:x?}");
        }
    }

    #[test]
    fn a_task_is_marked_as_busy() {
        let mut cpu = run_well(LTR, |cpu| cpu.regs[AX] = IDLE_TASK.into());
        assert_eq!((cpu.sregs.tr.base, cpu.sregs.tr.limit, cpu.sregs.tr.selector), (TSS, 0x67, IDLE_TASK));
        assert_eq!(cpu.sregs.tr.type_, 11);
        assert_eq!(cpu.read_system::<u8>(GDT + u64::from(IDLE_TASK) + 5), Ok(0x8b));
        // str bx
        cpu = run_well(&[0x66, 0x0f, 0x00, 0xcb], |_| {});
        assert_eq!(cpu.regs[3], u64::from(TASK));
    }

    #[test]
    fn a_local_table_is_loaded_or_taken_away() {
        let cpu = run_well(LLDT, |cpu| cpu.regs[AX] = LOCAL_TABLE.into());
        assert_eq!((cpu.sregs.ldt.base, cpu.sregs.ldt.limit, cpu.sregs.ldt.unusable), (GDT, 15, 0));
        let cpu = run_well(LLDT, |cpu| cpu.sregs.ldt.unusable = 0);
        assert_eq!(cpu.sregs.ldt.unusable, 1);
    }

    #[test]
    fn other_descriptors_raise_general_protection() {
        for (code, selector) in [
            (LTR, 0),
            (LTR, TASK),
            (LTR, LOCAL_TABLE),
            (LTR, KERNEL_CODE),
            (LTR, IDLE_TASK | 4),
            (LTR, 0xfff8),
            (LLDT, IDLE_TASK),
            (LLDT, 0xfff8),
        ] {
            let raised = run_badly(code, |cpu| cpu.regs[AX] = selector.into());
            assert_eq!(raised, (13, Some(in_error(selector))), "{code:x?} {selector:#x}");
        }
    }

    #[test]
    fn the_second_half_of_a_descriptor_must_be_in_the_table_and_its_base_an_address() {
        let short = run_badly(LTR, |cpu| {
            cpu.regs[AX] = IDLE_TASK.into();
            cpu.sregs.gdt.limit = IDLE_TASK + 14;
        });
        let wild = run_badly(LTR, |cpu| {
            cpu.regs[AX] = IDLE_TASK.into();
            cpu.write_system::<u32>(GDT + u64::from(IDLE_TASK) + 8, 0x4_0000).unwrap();
        });
        assert_eq!((short, wild), ((13, Some(IDLE_TASK.into())), (13, Some(IDLE_TASK.into()))));
    }

    #[test]
    fn programs_may_look_but_not_load() {
        for code in [LLDT, LTR, &[0x0f, 0x01, 0x10], &[0x0f, 0x01, 0x18]] {
            assert_eq!(run_badly(code, enter_ring3), (13, Some(0)), "{code:x?}");
        }
        // sldt eax
        run_well(&[0x0f, 0x00, 0xc0], enter_ring3);
    }
}
