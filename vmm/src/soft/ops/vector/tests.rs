//! Vectors loaded from memory, changed, and stored again.

use super::super::super::cpu::{Cpu, RAX, RCX, RDI, RSI};
use super::super::super::extended::Extended;
use super::super::super::flags::{ARITHMETIC, CF, OF, SF, ZF};
use super::super::super::testing::{DATA, run};

const A: u128 = 0x0f0e_0d0c_0b0a_0908_8706_0504_0302_0100;
const B: u128 = 0x000e_ff0c_7f0a_8008_0006_ff04_7f02_8000;

/// Puts A and B where RDI points to, runs `code`, and returns the CPU.
fn with_vectors(code: &[u8]) -> Cpu {
    run(code, |cpu| {
        cpu.extended = Some(Extended::new(Box::new([0; 4096])));
        cpu.regs[usize::from(RDI)] = DATA;
        cpu.regs[usize::from(RSI)] = DATA + 0x41;
        cpu.write_bytes(DATA, &A.to_le_bytes()).unwrap();
        cpu.write_bytes(DATA + 16, &B.to_le_bytes()).unwrap();
        cpu.write_bytes(DATA + 0x41, &[0xaa; 32]).unwrap();
    })
}

/// What `[op] xmm0, xmm1` leaves of A in XMM0 and B in XMM1, by way of unaligned memory.
fn result(op: &[u8]) -> u128 {
    // movdqa xmm0, [rdi]; movdqa xmm1, [rdi+16]; (op); movdqu [rsi], xmm0
    let code =
        [&[0x66, 0x0f, 0x6f, 0x07, 0x66, 0x0f, 0x6f, 0x4f, 0x10], op, &[0xf3, 0x0f, 0x7f, 0x06]].concat();
    let mut cpu = with_vectors(&code);
    let mut bytes = [0; 16];
    cpu.read_bytes(DATA + 0x41, &mut bytes).unwrap();
    u128::from_le_bytes(bytes)
}

#[test]
fn computations_work_on_each_lane() {
    for (name, op, expected) in [
        ("pxor", &[0x66, 0x0f, 0xef, 0xc1][..], A ^ B),
        ("pandn", &[0x66, 0x0f, 0xdf, 0xc1], !A & B),
        ("xorps xmm0, xmm0", &[0x0f, 0x57, 0xc0], 0),
        ("pcmpeqb", &[0x66, 0x0f, 0x74, 0xc1], 0x00ff_00ff_00ff_00ff_00ff_00ff_00ff_00ff),
        ("pcmpgtb", &[0x66, 0x0f, 0x64, 0xc1], 0xff00_ff00_0000_ff00_0000_ff00_0000_ff00),
        ("pminub", &[0x66, 0x0f, 0xda, 0xc1], 0x000e_0d0c_0b0a_0908_0006_0504_0302_0100),
        ("paddd", &[0x66, 0x0f, 0xfe, 0xc1], 0x0f1d_0c18_8a14_8910_870d_0408_8204_8100),
        ("psubq", &[0x66, 0x0f, 0xfb, 0xc1], 0x0eff_0dff_8bff_8900_86ff_05ff_83ff_8100),
        ("punpcklbw", &[0x66, 0x0f, 0x60, 0xc1], 0x0087_0606_ff05_0404_7f03_0202_8001_0000),
        ("punpckhdq", &[0x66, 0x0f, 0x6a, 0xc1], 0x000e_ff0c_0f0e_0d0c_7f0a_8008_0b0a_0908),
        ("punpcklqdq", &[0x66, 0x0f, 0x6c, 0xc1], B << 64 | A & u128::from(u64::MAX)),
        (
            "pshufd xmm0, xmm1, 0x1b",
            &[0x66, 0x0f, 0x70, 0xc1, 0x1b],
            0x7f02_8000_0006_ff04_7f0a_8008_000e_ff0c,
        ),
        ("pshuflw xmm0, xmm0, 0", &[0xf2, 0x0f, 0x70, 0xc0, 0], 0x0f0e_0d0c_0b0a_0908_0100_0100_0100_0100),
        ("pslldq xmm0, 3", &[0x66, 0x0f, 0x73, 0xf8, 3], A << 24),
        ("psrldq xmm0, 16", &[0x66, 0x0f, 0x73, 0xd8, 16], 0),
        ("palignr xmm0, xmm1, 5", &[0x66, 0x0f, 0x3a, 0x0f, 0xc1, 5], A << 88 | B >> 40),
        ("psrlw xmm0, 4", &[0x66, 0x0f, 0x71, 0xd0, 4], 0x00f0_00d0_00b0_0090_0870_0050_0030_0010),
        ("pshufb xmm0, xmm1", &[0x66, 0x0f, 0x38, 0x00, 0xc1], 0x000e_000c_0f0a_0008_0006_0004_0f02_0000),
        ("movhlps", &[0x0f, 0x12, 0xc1], A & !u128::from(u64::MAX) | B >> 64),
        ("movlhps", &[0x0f, 0x16, 0xc1], A & u128::from(u64::MAX) | B << 64),
        ("movq xmm0, xmm1", &[0xf3, 0x0f, 0x7e, 0xc1], B & u128::from(u64::MAX)),
        ("movhps xmm0, [rdi]", &[0x0f, 0x16, 0x07], A & u128::from(u64::MAX) | A << 64),
        ("movd xmm0, [rdi+8]", &[0x66, 0x0f, 0x6e, 0x47, 8], 0x0b0a_0908),
    ] {
        assert_eq!(result(op), expected, "{name}: {:#034x}", result(op));
    }
}

#[test]
fn the_signs_of_bytes_become_a_mask() {
    // movdqu xmm3, [rdi]; pmovmskb eax, xmm3
    let cpu = with_vectors(&[0xf3, 0x0f, 0x6f, 0x1f, 0x66, 0x0f, 0xd7, 0xc3]);
    assert_eq!(cpu.get::<u64>(RAX), 0x80);
}

#[test]
fn strings_are_compared_as_the_manual_says() {
    let text = |text: &[u8]| {
        let mut bytes = [0; 16];
        bytes[..text.len()].copy_from_slice(text);
        bytes
    };
    for (name, a, b, control, index, flags) in [
        ("a character of a set", &b"xyl"[..], &b"hello"[..], 0, 2, CF | ZF | SF),
        ("none of a set", b"xyz", b"hello", 0, 16, ZF | SF),
        ("the first outside of ranges", b"az", b"plain Text", 0x14, 5, CF | ZF | SF),
        ("the first difference", b"hello", b"help", 0x18, 3, CF | ZF | SF),
        ("no difference", b"hello", b"hello", 0x18, 16, ZF | SF),
        ("a word in a longer one", b"lo", b"hello", 0x0c, 3, CF | ZF | SF),
        ("the beginning", b"he", b"hello, hello, he", 0x0c, 0, CF | SF | OF),
        ("the last one of a set", b"l", b"hello", 0x40, 3, CF | ZF | SF),
    ] {
        // movdqa xmm0, [rdi]; pcmpistri xmm0, [rdi+16], control
        let code = [0x66, 0x0f, 0x6f, 0x07, 0x66, 0x0f, 0x3a, 0x63, 0x47, 0x10, control];
        let cpu = run(&code, |cpu| {
            cpu.extended = Some(Extended::new(Box::new([0; 4096])));
            cpu.regs[usize::from(RDI)] = DATA;
            cpu.write_bytes(DATA, &[text(a), text(b)].concat()).unwrap();
        });
        assert_eq!((cpu.get::<u64>(RCX), cpu.flags.get() & ARITHMETIC), (index, flags), "{name}");
    }
}

#[test]
fn general_registers_take_and_give_the_low_part() {
    // movdqa xmm2, [rdi]; movq rax, xmm2; movd esi, xmm2
    let cpu = with_vectors(&[0x66, 0x0f, 0x6f, 0x17, 0x66, 0x48, 0x0f, 0x7e, 0xd0, 0x66, 0x0f, 0x7e, 0xd6]);
    assert_eq!((cpu.get::<u64>(RAX), cpu.get::<u64>(RSI)), (0x8706_0504_0302_0100, 0x0302_0100));
}

#[test]
#[should_panic(expected = "vector: 13")]
fn an_aligned_access_must_be_aligned() {
    // movaps xmm0, [rdi+1]
    with_vectors(&[0x0f, 0x28, 0x47, 1]);
}
