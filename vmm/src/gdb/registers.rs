//! A vCPU's registers as gdb has them, and back.
//!
//! The x87 and SSE registers are in the layout of FXSAVE64 (Intel SDM volume 1, section 10.5.1). gdb wants the x87's tags
//! in the long form, two bits for each physical register; FXSAVE has one bit, and the values say the rest.

use gdbstub_arch::x86::reg::{F80, X86_64CoreRegs, X86SegmentRegs, X87FpuInternalRegs};

use super::arch::{SystemRegisters, VcpuRegisters};
use crate::cpu::debug::DebugState;

/// Offsets in FXSAVE's area.
const FCW: usize = 0;
const FSW: usize = 2;
const TAGS: usize = 4;
const OPCODE: usize = 6;
const INSTRUCTION: usize = 8;
const OPERAND: usize = 16;
const MXCSR: usize = 24;
const ST: usize = 32;
const XMM: usize = 160;
/// Bytes between two registers there.
const STRIDE: usize = 16;
/// Tags of the long form.
const VALID: u32 = 0;
const ZERO: u32 = 1;
const SPECIAL: u32 = 2;
const EMPTY: u32 = 3;

fn bytes<const N: usize>(area: &[u8], at: usize) -> [u8; N] {
    area.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

fn half(area: &[u8], at: usize) -> u32 {
    u16::from_le_bytes(bytes(area, at)).into()
}

fn word(area: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes(area, at))
}

fn put(area: &mut [u8], at: usize, value: &[u8]) {
    if let Some(to) = area.get_mut(at..at + value.len()) {
        to.copy_from_slice(value);
    }
}

/// The registers of `state` for gdb.
pub(super) fn for_gdb(state: &DebugState) -> VcpuRegisters {
    let sregs = &state.sregs;
    let system = SystemRegisters {
        fs_base: sregs.fs.base,
        gs_base: sregs.gs.base,
        cr0: sregs.cr0,
        cr2: sregs.cr2,
        cr3: sregs.cr3,
        cr4: sregs.cr4,
        cr8: sregs.cr8,
        efer: sregs.efer,
        gdtr: sregs.gdt.base,
        idtr: sregs.idt.base,
    };
    VcpuRegisters { core: core(state), system }
}

fn core(state: &DebugState) -> X86_64CoreRegs {
    let (regs, sregs, fpu) = (&state.regs, &state.sregs, &state.fpu);
    #[expect(clippy::cast_possible_truncation, reason = "the upper half of RFLAGS is reserved")]
    let eflags = regs.rflags as u32;
    X86_64CoreRegs {
        regs: [
            regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.rsp, regs.r8, regs.r9,
            regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
        ],
        eflags,
        rip: regs.rip,
        segments: X86SegmentRegs {
            cs: sregs.cs.selector.into(),
            ss: sregs.ss.selector.into(),
            ds: sregs.ds.selector.into(),
            es: sregs.es.selector.into(),
            fs: sregs.fs.selector.into(),
            gs: sregs.gs.selector.into(),
        },
        st: std::array::from_fn(|number| bytes(fpu, ST + number * STRIDE)),
        fpu: X87FpuInternalRegs {
            fctrl: half(fpu, FCW),
            fstat: half(fpu, FSW),
            ftag: long_tags(fpu),
            fioff: word(fpu, INSTRUCTION),
            fiseg: word(fpu, INSTRUCTION + 4),
            fooff: word(fpu, OPERAND),
            foseg: word(fpu, OPERAND + 4),
            fop: half(fpu, OPCODE),
        },
        xmm: std::array::from_fn(|number| u128::from_le_bytes(bytes(fpu, XMM + number * STRIDE))),
        mxcsr: word(fpu, MXCSR),
    }
}

/// Puts what gdb has set into `state`; whether it could: segments and system registers are loaded by the guest alone.
pub(super) fn from_gdb(from: &VcpuRegisters, state: &mut DebugState) -> bool {
    let before = for_gdb(state);
    if (&from.core.segments, from.system) != (&before.core.segments, before.system) {
        return false;
    }
    let from = &from.core;
    let regs = &mut state.regs;
    [
        regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.rsp, regs.r8, regs.r9,
        regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
    ] = from.regs;
    regs.rip = from.rip;
    regs.rflags = from.eflags.into();
    let fpu = &mut state.fpu;
    for (value, number) in from.st.iter().zip(0..) {
        put(fpu, ST + number * STRIDE, value);
    }
    for (value, number) in from.xmm.iter().zip(0..) {
        put(fpu, XMM + number * STRIDE, &value.to_le_bytes());
    }
    let x87 = &from.fpu;
    for (at, value) in [(FCW, x87.fctrl), (FSW, x87.fstat), (OPCODE, x87.fop)] {
        put(fpu, at, value.to_le_bytes().first_chunk::<2>().unwrap_or(&[0; 2]));
    }
    for (at, value) in [
        (INSTRUCTION, x87.fioff),
        (INSTRUCTION + 4, x87.fiseg),
        (OPERAND, x87.fooff),
        (OPERAND + 4, x87.foseg),
        (MXCSR, from.mxcsr),
    ] {
        put(fpu, at, &value.to_le_bytes());
    }
    put(fpu, TAGS, &[short_tags(x87.ftag)]);
    true
}

/// A tag for each physical register, of FXSAVE's bits and the values, which are in the order of the stack.
fn long_tags(fpu: &[u8]) -> u32 {
    let top = half(fpu, FSW) >> 11 & 7;
    let used = half(fpu, TAGS);
    let tag = |physical: u32| {
        let on_stack = physical.wrapping_sub(top) & 7;
        let value: F80 = bytes(fpu, ST + on_stack as usize * STRIDE);
        if used >> physical & 1 == 0 { EMPTY } else { classify(value) }
    };
    (0..8).map(|physical| tag(physical) << (2 * physical)).sum()
}

fn classify(value: F80) -> u32 {
    let (significand, exponent) = (u64::from_le_bytes(bytes(&value, 0)), half(&value, 8) & 0x7fff);
    match (exponent, significand) {
        (0, 0) => ZERO,
        (0 | 0x7fff, _) => SPECIAL,
        (_, significand) if significand >> 63 == 0 => SPECIAL,
        _ => VALID,
    }
}

fn short_tags(long: u32) -> u8 {
    (0..8).filter(|register| long >> (2 * register) & 3 != EMPTY).map(|register| 1 << register).sum()
}

#[cfg(test)]
mod tests {
    use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

    use super::*;

    fn state() -> DebugState {
        let segment = |selector| kvm_segment { selector, base: 0x6000, ..Default::default() };
        let regs = kvm_regs { rax: 1, rbx: 2, rsp: 3, r15: 4, rip: 5, rflags: 0x246, ..Default::default() };
        let sregs = kvm_sregs { cs: segment(0x10), gs: segment(0x2b), cr3: 0x5000, ..Default::default() };
        let mut fpu = [0; 512];
        for (at, byte) in fpu.iter_mut().enumerate() {
            *byte = u8::try_from(at % 251).unwrap();
        }
        DebugState { regs, sregs, fpu }
    }

    #[test]
    fn registers_are_where_gdb_looks_for_them() {
        let state = state();
        let VcpuRegisters { core: gdb, system } = for_gdb(&state);
        assert_eq!((system.cr3, system.gs_base), (0x5000, 0x6000));
        assert_eq!((gdb.regs[0], gdb.regs[1], gdb.regs[7], gdb.regs[15]), (1, 2, 3, 4));
        assert_eq!((gdb.rip, gdb.eflags, gdb.segments.cs, gdb.segments.gs), (5, 0x246, 0x10, 0x2b));
        assert_eq!(gdb.st[1][..2], state.fpu[48..50]);
        assert_eq!(gdb.xmm[15].to_le_bytes(), state.fpu[400..416]);
        assert_eq!(gdb.mxcsr.to_le_bytes(), state.fpu[24..28]);
    }

    #[test]
    fn what_gdb_writes_back_unchanged_changes_nothing() {
        let mut copy = state();
        assert!(from_gdb(&for_gdb(&state()), &mut copy));
        assert_eq!(copy, state());
    }

    #[test]
    fn changes_arrive() {
        let mut changed = state();
        let mut gdb = for_gdb(&changed);
        gdb.core.regs[1] = 77;
        gdb.core.rip = 0xffff_ffff_8100_0000;
        gdb.core.xmm[2] = 0x1234;
        assert!(from_gdb(&gdb, &mut changed));
        assert_eq!((changed.regs.rbx, changed.regs.rip), (77, 0xffff_ffff_8100_0000));
        assert_eq!(changed.fpu[192..194], [0x34, 0x12]);
    }

    #[test]
    fn segments_and_system_registers_cannot_be_set() {
        let (mut segment, mut system) = (for_gdb(&state()), for_gdb(&state()));
        segment.core.segments.cs = 0x33;
        system.system.cr3 = 0;
        for gdb in [segment, system] {
            let mut same = state();
            assert!(!from_gdb(&gdb, &mut same));
            assert_eq!(same, state());
        }
    }

    #[test]
    fn tags_tell_what_the_registers_hold() {
        let mut fpu = [0; 512];
        // The stack's top is physical register 6; 6 holds 1.0, 7 zero, 0 an infinity.
        put(&mut fpu, FSW, &(6u16 << 11).to_le_bytes());
        fpu[TAGS] = 0b1100_0001;
        put(&mut fpu, ST, &[0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f]);
        put(&mut fpu, ST + 2 * STRIDE, &[0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x7f]);
        let long = long_tags(&fpu);
        assert_eq!(long, 0b01_00_11_11_11_11_11_10);
        assert_eq!(short_tags(long), fpu[TAGS]);
    }
}
