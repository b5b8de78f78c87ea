//! What AVX adds: 256 bits, what becomes of the rest of a register, and when there is none of it.

use kvm_bindings::kvm_cpuid_entry2;

use super::super::super::cpu::{Cpu, RDI};
use super::super::super::extended::Extended;
use super::super::super::interpreter::Interpreter;
use super::super::super::step::{Exception, Stop};
use super::super::super::testing::{CODE, DATA, TABLES, interpreter};
use crate::cpu::control_bits::CR4_OSXSAVE;
use crate::cpu::xstate::Layout;

const XSTATE_BV: usize = 512;
const LOW_HALVES: usize = 160;
const HIGH_HALVES: usize = 576;
const UPPER_ZMM: usize = 1152;
const X87_SSE_AVX: u64 = 7;
const LOW: u128 = 0x0f0e_0d0c_0b0a_0908_8706_0504_0302_0100;
const HIGH: u128 = 0x1f1e_1d1c_1b1a_1918_9716_1514_1312_1110;
/// What registers hold above their low halves.
const ABOVE: u8 = 0x77;

/// About to run `code` with AVX and AVX-512 switched on and in use, LOW and HIGH where RDI points to.
fn prepared(code: &[u8]) -> Interpreter {
    let mut interpreter = interpreter(code);
    let cpu = &mut interpreter.cpu;
    let component =
        |index, eax, ebx| kvm_cpuid_entry2 { function: 0xd, index, eax, ebx, ..Default::default() };
    cpu.xstate = Layout::from_cpuid(&[component(2, 256, 576), component(6, 512, 1152)]);
    cpu.mmu.paging.cr4 |= CR4_OSXSAVE;
    cpu.xcr0 = 0xe7;
    let mut state = Box::new([0; 4096]);
    state[XSTATE_BV] = 0x47;
    state[HIGH_HALVES..HIGH_HALVES + 256].fill(ABOVE);
    state[UPPER_ZMM..UPPER_ZMM + 512].fill(ABOVE);
    cpu.extended = Some(Extended::new(state));
    cpu.regs[usize::from(RDI)] = DATA;
    cpu.write_bytes(DATA, &[LOW.to_le_bytes(), HIGH.to_le_bytes()].concat()).unwrap();
    interpreter
}

/// The CPU behind `code`.
fn after(code: &[u8]) -> Cpu {
    let mut interpreter = prepared(code);
    while interpreter.cpu.rip < CODE + code.len() as u64 {
        assert_eq!(interpreter.step(), Ok(()), "{:?}", interpreter.cpu.exception);
    }
    interpreter.cpu
}

/// Register 0: its low and high half, and the lowest byte of what is above.
fn register_0(cpu: &Cpu) -> (u128, u128, u8) {
    let state = &cpu.extended.as_ref().unwrap().state;
    let half = |at: usize| u128::from_le_bytes(state[at..at + 16].try_into().unwrap());
    (half(LOW_HALVES), half(HIGH_HALVES), state[UPPER_ZMM])
}

#[test]
fn each_half_of_256_bits_is_computed_alone() {
    let zeros = 0;
    for (name, op, expected) in [
        ("vmovdqu ymm0, [rdi]", &[0xc5, 0xfe, 0x6f, 0x07][..], (LOW, HIGH)),
        ("vmovdqa ymm0, [rdi]", &[0xc5, 0xfd, 0x6f, 0x07], (LOW, HIGH)),
        // vmovdqu ymm1, [rdi]; vpxor ymm0, ymm1, [rdi]
        ("vpxor", &[0xc5, 0xfe, 0x6f, 0x0f, 0xc5, 0xf5, 0xef, 0x07], (zeros, zeros)),
        (
            "vpalignr ymm0, ymm0, ymm0, 4 behind a load",
            &[0xc5, 0xfe, 0x6f, 0x07, 0xc4, 0xe3, 0x7d, 0x0f, 0xc0, 4],
            (LOW.rotate_right(32), HIGH.rotate_right(32)),
        ),
        (
            "vpermq ymm0, ymm0, 0x4e behind a load",
            &[0xc5, 0xfe, 0x6f, 0x07, 0xc4, 0xe3, 0xfd, 0x00, 0xc0, 0x4e],
            (HIGH, LOW),
        ),
        (
            "vpbroadcastb ymm0, [rdi+5]",
            &[0xc4, 0xe2, 0x7d, 0x78, 0x47, 0x05],
            (u128::MAX / 0xff * 5, u128::MAX / 0xff * 5),
        ),
    ] {
        let (low, high, above) = register_0(&after(op));
        assert_eq!((low, high, above), (expected.0, expected.1, 0), "{name}");
    }
}

#[test]
fn sse_leaves_what_is_above_and_avx_clears_it() {
    let above = u128::from_le_bytes([ABOVE; 16]);
    // movdqu xmm0, [rdi]; vmovdqu xmm0, [rdi]
    assert_eq!(register_0(&after(&[0xf3, 0x0f, 0x6f, 0x07])), (LOW, above, ABOVE));
    assert_eq!(register_0(&after(&[0xc5, 0xfa, 0x6f, 0x07])), (LOW, 0, 0));
}

#[test]
fn clearing_what_is_above_leaves_those_parts_unused() {
    // movdqu xmm0, [rdi]; vzeroupper or vzeroall
    for (last, low) in [([0xc5, 0xf8, 0x77], LOW), ([0xc5, 0xfc, 0x77], 0)] {
        let cpu = after(&[&[0xf3, 0x0f, 0x6f, 0x07][..], &last].concat());
        assert_eq!(register_0(&cpu), (low, 0, 0));
        assert_eq!(cpu.extended.unwrap().state[XSTATE_BV], 3);
    }
}

#[test]
fn avx_is_invalid_until_the_kernel_has_switched_it_on() {
    let prepares: [fn(&mut Cpu); 2] =
        [|cpu| cpu.mmu.paging.cr4 &= !CR4_OSXSAVE, |cpu| cpu.xcr0 = X87_SSE_AVX & !4];
    // vpxor xmm0, xmm0, xmm0; vmovdqu [rdi], ymm0; vpxor xmm0, xmm0, [0]; vzeroupper
    let load = [0xc5, 0xf9, 0xef, 0x04, 0x25, 0, 0, 0, 0];
    for code in [&[0xc5, 0xf9, 0xef, 0xc0][..], &[0xc5, 0xfe, 0x7f, 0x07], &load, &[0xc5, 0xf8, 0x77]] {
        for prepare in prepares {
            let mut interpreter = prepared(code);
            prepare(&mut interpreter.cpu);
            assert_eq!(interpreter.step(), Err(Stop::Fault));
            assert_eq!(interpreter.cpu.exception, Some(Exception::INVALID_OPCODE), "{code:x?}");
        }
    }
}

#[test]
fn only_moves_that_say_so_need_alignment_to_all_of_their_bytes() {
    let protection = Some(Exception::general_protection(0));
    for (name, code, exception) in [
        ("vmovdqa ymm0, [rdi+16]", &[0xc5, 0xfd, 0x6f, 0x47, 16][..], protection),
        ("vmovdqa xmm0, [rdi+16]", &[0xc5, 0xf9, 0x6f, 0x47, 16], None),
        ("vmovdqa xmm0, [rdi+8]", &[0xc5, 0xf9, 0x6f, 0x47, 8], protection),
        ("vpxor ymm0, ymm0, [rdi+8]", &[0xc5, 0xfd, 0xef, 0x47, 8], None),
        ("pxor xmm0, [rdi+8]", &[0x66, 0x0f, 0xef, 0x47, 8], protection),
    ] {
        let mut interpreter = prepared(code);
        let _ = interpreter.step();
        assert_eq!(interpreter.cpu.exception, exception, "{name}");
    }
}

#[test]
fn a_store_into_an_absent_page_writes_nothing() {
    // vmovdqu [rdi+0xff0], ymm0
    let mut interpreter = prepared(&[0xc5, 0xfe, 0x7f, 0x87, 0xf0, 0x0f, 0, 0]);
    let (cpu, next) = (&mut interpreter.cpu, DATA + 0x1000);
    cpu.write::<u64>(next - 16, 7).unwrap();
    cpu.write::<u64>(TABLES + 0x3000 + (next >> 12) * 8, 0).unwrap();
    assert_eq!(interpreter.step(), Err(Stop::Fault));
    let cpu = &mut interpreter.cpu;
    assert_eq!(cpu.exception, Some(Exception::page_fault(next, 2)));
    assert_eq!(cpu.read::<u64>(next - 16), Ok(7));
}
