//! What strings come to: directions, sizes, pages, overlaps, faults, devices.

use super::super::super::cpu::{Cpu, DeviceAccess, FS, PortAccess, RAX, RCX, RDI, RDX, RSI};
use super::super::super::flags::{ARITHMETIC, CF, DF, SF, ZF};
use super::super::super::interpreter::Interpreter;
use super::super::super::step::Stop;
use super::super::super::testing::{CODE, DATA, TABLES, interpreter, run};
use super::super::testing::{load, store};

const MOVSB: &[u8] = &[0xf3, 0xa4];
const MOVSQ: &[u8] = &[0xf3, 0x48, 0xa5];
const STOSB: &[u8] = &[0xf3, 0xaa];
/// Some distance away from [`DATA`].
const OTHER: u64 = DATA + 0x4000;

fn point(cpu: &mut Cpu, source: u64, destination: u64, count: u64) {
    cpu.regs[usize::from(RSI)] = source;
    cpu.regs[usize::from(RDI)] = destination;
    cpu.regs[usize::from(RCX)] = count;
}

fn pointers(cpu: &Cpu) -> (u64, u64, u64) {
    (cpu.regs[usize::from(RSI)], cpu.regs[usize::from(RDI)], cpu.regs[usize::from(RCX)])
}

/// Numbers the bytes from `start` on.
fn number_bytes(cpu: &Cpu, start: u64, len: u64) {
    for at in 0..len {
        store(cpu, start + at, number(at));
    }
}

/// The byte that [`number_bytes`] puts at distance `at`: the pages differ.
fn number(at: u64) -> u8 {
    u8::try_from((at ^ at >> 8) % 251).unwrap()
}

/// Makes the page at `address` absent.
fn unmap(cpu: &mut Cpu, address: u64) {
    store(cpu, TABLES + 0x3000 + (address >> 12) * 8, 0u64);
    cpu.mmu.flush_all();
}

/// Steps until the instruction is done or something but [`Stop::Again`] stops it; how often it was [`Stop::Again`].
fn finish(interpreter: &mut Interpreter) -> (Result<(), Stop>, u32) {
    let mut times = 0;
    loop {
        match interpreter.step() {
            Err(Stop::Again) => times += 1,
            other => return (other, times),
        }
    }
}

#[test]
fn single_elements_advance_by_their_size() {
    for (code, size) in [(&[0xa4][..], 1u64), (&[0x66, 0xa5], 2), (&[0xa5], 4), (&[0x48, 0xa5], 8)] {
        for (flags, advance) in [(0, size), (DF, size.wrapping_neg())] {
            let cpu = run(code, |cpu| {
                point(cpu, DATA, OTHER, 7);
                cpu.flags.set(flags);
                store(cpu, DATA, 0x8877_6655_4433_2211u64);
            });
            assert_eq!(load::<u64>(&cpu, OTHER), 0x8877_6655_4433_2211 & u64::MAX >> (64 - 8 * size));
            assert_eq!(pointers(&cpu), (DATA.wrapping_add(advance), OTHER.wrapping_add(advance), 7));
        }
    }
}

#[test]
fn the_source_may_be_in_another_segment() {
    // fs movsb
    let cpu = run(&[0x64, 0xa4], |cpu| {
        point(cpu, 8, OTHER, 0);
        cpu.bases[usize::from(FS)] = DATA;
        store(cpu, DATA + 8, 9u8);
    });
    assert_eq!(load::<u8>(&cpu, OTHER), 9);
}

#[test]
fn a_count_of_zero_touches_nothing() {
    let all = ARITHMETIC;
    // rep movsb, rep stosb, rep lodsb, repe cmpsb, repne scasb, at addresses that do not exist
    for code in [MOVSB, STOSB, &[0xf3, 0xac], &[0xf3, 0xa6], &[0xf2, 0xae]] {
        let cpu = run(code, |cpu| {
            point(cpu, 1 << 40, 1 << 41, 0);
            cpu.flags.set(all);
        });
        assert_eq!((pointers(&cpu), cpu.flags.get() & all), ((1 << 40, 1 << 41, 0), all));
    }
}

#[test]
fn copies_go_across_pages_at_any_alignment_in_both_directions() {
    let len = 3 * 4096 + 24;
    for (code, size) in [(MOVSB, 1), (&[0xf3, 0x66, 0xa5][..], 2), (&[0xf2, 0xa5], 4), (MOVSQ, 8)] {
        for (from, to) in [(DATA, OTHER), (DATA + 3, OTHER), (DATA + 5, OTHER + 0xffe)] {
            for backwards in [false, true] {
                let cpu = run(code, |cpu| {
                    number_bytes(cpu, from, len);
                    let last = if backwards { len - size } else { 0 };
                    point(cpu, from + last, to + last, len / size);
                    cpu.flags.set(if backwards { DF } else { 0 });
                });
                let (advance, end) =
                    if backwards { (size.wrapping_neg(), size.wrapping_neg()) } else { (len, len) };
                assert_eq!(pointers(&cpu), (from.wrapping_add(advance), to.wrapping_add(end), 0));
                for at in 0..len {
                    assert_eq!(load::<u8>(&cpu, to + at), number(at), "{size} {from:#x} {to:#x} {at}");
                }
                assert_eq!((load::<u8>(&cpu, to - 1), load::<u8>(&cpu, to + len)), (0, 0));
            }
        }
    }
}

#[test]
fn interrupts_come_in_at_least_once_a_page() {
    let mut interpreter = interpreter(MOVSB);
    point(&mut interpreter.cpu, DATA + 1, OTHER, 3 * 4096);
    assert_eq!(interpreter.step(), Err(Stop::Again));
    assert_eq!(interpreter.cpu.rip, CODE);
    assert_eq!(pointers(&interpreter.cpu), (DATA + 1 + 4096, OTHER + 4096, 2 * 4096));
    assert_eq!(finish(&mut interpreter), (Ok(()), 1));
    assert_eq!(interpreter.cpu.rip, CODE + 2);
}

#[test]
fn overlapping_copies_repeat_what_they_wrote() {
    // Against copying element by element, in both directions and for each distance.
    for (code, size) in [(MOVSB, 1u64), (MOVSQ, 8)] {
        for distance in [-64i64, -8, -7, -1, 0, 1, 3, 8, 9, 64] {
            for backwards in [false, true] {
                let (from, elements) = (DATA + 0x800, 20);
                let to = from.wrapping_add_signed(distance);
                let start = if backwards { (elements - 1) * size } else { 0 };
                let mut expected = None;
                let cpu = run(code, |cpu| {
                    number_bytes(cpu, DATA, 4096);
                    let mut bytes: Vec<u8> = (0..4096).map(|at| load(cpu, DATA + at)).collect();
                    for element in 0..elements {
                        let element = if backwards { elements - 1 - element } else { element };
                        let at = |pointer: u64| usize::try_from(pointer - DATA + element * size).unwrap();
                        let source = at(from)..at(from) + usize::try_from(size).unwrap();
                        bytes.copy_within(source, at(to));
                    }
                    expected = Some(bytes);
                    point(cpu, from + start, to + start, elements);
                    cpu.flags.set(if backwards { DF } else { 0 });
                });
                let got: Vec<u8> = (0..4096).map(|at| load(&cpu, DATA + at)).collect();
                assert_eq!(Some(got), expected, "{size} {distance} {backwards}");
            }
        }
    }
}

#[test]
fn fills_repeat_each_size_of_pattern() {
    let pattern = 0x8877_6655_4433_2211u64;
    for (code, size) in
        [(STOSB, 1u64), (&[0xf3, 0x66, 0xab][..], 2), (&[0xf3, 0xab], 4), (&[0xf3, 0x48, 0xab], 8)]
    {
        for (rax, to, backwards) in [
            (pattern, DATA, false),
            (0, DATA, false),
            (pattern, DATA + 0x7fd, false),
            (pattern, DATA + 5, true),
        ] {
            let count = 2 * 4096 / size + 1;
            let cpu = run(code, |cpu| {
                for at in 0..3 * 4096 {
                    store(cpu, DATA + at, 0xeeu8);
                }
                cpu.regs[usize::from(RAX)] = rax;
                let last = if backwards { (count - 1) * size } else { 0 };
                point(cpu, 0, to + last, count);
                cpu.flags.set(if backwards { DF } else { 0 });
            });
            let end = if backwards { to.wrapping_sub(size) } else { to + count * size };
            assert_eq!(pointers(&cpu), (0, end, 0));
            for at in 0..count * size {
                let byte = rax.to_le_bytes()[usize::try_from(at % size).unwrap()];
                assert_eq!(load::<u8>(&cpu, to + at), byte, "{size} {at}");
            }
            assert_eq!(load::<u8>(&cpu, to + count * size), 0xee);
        }
    }
}

#[test]
fn a_fault_in_the_middle_leaves_the_progress() {
    for (code, size, start) in
        [(MOVSB, 1u64, 0x10u64), (MOVSQ, 8, 0x13), (STOSB, 1, 7), (&[0xf3, 0xa6], 1, 9)]
    {
        let mut interpreter = interpreter(code);
        let cpu = &mut interpreter.cpu;
        // One page is there, the next is not.
        unmap(cpu, OTHER + 0x1000);
        point(cpu, DATA, OTHER + start, 0x2000 / size);
        cpu.flags.set(ARITHMETIC);
        let (result, _) = finish(&mut interpreter);
        assert_eq!(result, Err(Stop::Fault));
        let cpu = &mut interpreter.cpu;
        let done = (0x1000 - start) / size;
        let source = if code == STOSB { DATA } else { DATA + done * size };
        assert_eq!(pointers(cpu), (source, OTHER + start + done * size, 0x2000 / size - done));
        assert_eq!((cpu.rip, cpu.flags.get() & ARITHMETIC), (CODE, ARITHMETIC));
        // An element that straddles the pages faults where the absent one starts.
        let fault = cpu.exception.and_then(|exception| exception.address);
        assert_eq!(fault, Some(OTHER + 0x1000));
        // With the page there it goes on to its end.
        store(cpu, TABLES + 0x3000 + (OTHER >> 12) * 8 + 8, (OTHER + 0x1000) | 7);
        assert_eq!(finish(&mut interpreter).0, Ok(()));
        assert_eq!(interpreter.cpu.regs[usize::from(RCX)], 0);
    }
}

#[test]
fn devices_are_asked_for_one_element_at_a_time() {
    // The page at OTHER is moved to where no RAM is; rep movsd from there.
    let mut interpreter = interpreter(&[0xf3, 0xa5]);
    let cpu = &mut interpreter.cpu;
    store(cpu, TABLES + 0x3000 + (OTHER >> 12) * 8, 0xd000_0000u64 | 7);
    cpu.mmu.flush_all();
    point(cpu, OTHER, DATA, 3);
    for element in 0..3u64 {
        assert_eq!(interpreter.step(), Err(Stop::Device));
        let access = DeviceAccess { address: 0xd000_0000 + 4 * element, size: 4, write: None };
        assert_eq!(interpreter.cpu.device, Some(access));
        interpreter.cpu.answered.push((access, 100 + element));
        let result = interpreter.step();
        interpreter.cpu.answered.clear();
        assert_eq!(result, if element < 2 { Err(Stop::Again) } else { Ok(()) });
        assert_eq!(u64::from(load::<u32>(&interpreter.cpu, DATA + 4 * element)), 100 + element);
    }
}

#[test]
fn code_that_is_overwritten_is_forgotten_first() {
    let mut interpreter = interpreter(STOSB);
    interpreter.cpu.mmu.set_code(usize::try_from(DATA).unwrap(), true);
    interpreter.cpu.regs[usize::from(RAX)] = 5;
    point(&mut interpreter.cpu, 0, DATA, 4096);
    assert_eq!(finish(&mut interpreter), (Ok(()), 0));
    assert!(!interpreter.cpu.mmu.is_code(usize::try_from(DATA).unwrap()));
    assert_eq!(load::<u8>(&interpreter.cpu, DATA + 4095), 5);
}

#[test]
fn loads_end_with_the_last_element() {
    // rep lodsw
    let cpu = run(&[0xf3, 0x66, 0xad], |cpu| {
        number_bytes(cpu, DATA, 64);
        cpu.regs[usize::from(RAX)] = u64::MAX;
        point(cpu, DATA, 0, 9);
    });
    assert_eq!(cpu.regs[usize::from(RAX)], 0xffff_ffff_ffff_1110);
    assert_eq!(pointers(&cpu), (DATA + 18, 0, 0));
}

#[test]
fn searches_stop_behind_what_they_found() {
    // (code, byte in AL, RCX, elements looked at, flags of the last comparison)
    for (code, al, count, looked_at, flags) in [
        // repne scasb: the byte 10 is the eleventh; 0xff is nowhere
        (&[0xf2, 0xae][..], 10, 100, 11, ZF),
        (&[0xf2, 0xae], 0xff, 20, 20, SF),
        // repe scasb: the first byte is 0, the second is not
        (&[0xf3, 0xae], 0, 100, 2, CF | SF),
        // scasb
        (&[0xae], 0, 100, 1, ZF),
    ] {
        let cpu = run(code, |cpu| {
            number_bytes(cpu, DATA, 200);
            cpu.regs[usize::from(RAX)] = al;
            point(cpu, 0, DATA, count);
        });
        let left = if code.len() == 1 { count } else { count - looked_at };
        assert_eq!(pointers(&cpu), (0, DATA + looked_at, left), "{code:x?} {al}");
        assert_eq!(cpu.flags.get() & (CF | ZF | SF), flags, "{code:x?} {al}");
    }
}

#[test]
fn strings_are_compared_up_to_the_difference() {
    let len = 2 * 4096u64;
    for (code, size) in
        [(&[0xf3, 0xa6][..], 1u64), (&[0xf3, 0x66, 0xa7], 2), (&[0xf3, 0xa7], 4), (&[0xf3, 0x48, 0xa7], 8)]
    {
        for difference in [0, 1, 5000, len - 1] {
            let cpu = run(code, |cpu| {
                number_bytes(cpu, DATA + 3, len);
                number_bytes(cpu, OTHER, len);
                // The source is above.
                store(cpu, DATA + 3 + difference, 255u8);
                point(cpu, DATA + 3, OTHER, len / size);
            });
            let looked_at = difference / size * size + size;
            assert_eq!(pointers(&cpu), (DATA + 3 + looked_at, OTHER + looked_at, (len - looked_at) / size));
            assert_eq!(cpu.flags.get() & (CF | ZF), 0);
        }
    }
    // repne cmpsb, backwards: stops where both are the same
    let cpu = run(&[0xf2, 0xa6], |cpu| {
        number_bytes(cpu, DATA, 64);
        number_bytes(cpu, OTHER + 1, 64);
        store(cpu, OTHER + 10, 10u8);
        point(cpu, DATA + 30, OTHER + 30, 100);
        cpu.flags.set(DF);
    });
    assert_eq!(pointers(&cpu), (DATA + 9, OTHER + 9, 79));
    assert!(cpu.flags.zero());
}

/// Answers the port access that `interpreter` must want, as the engine does.
fn answer(interpreter: &mut Interpreter, expected: PortAccess, value: u32) -> Result<(), Stop> {
    assert_eq!(interpreter.step(), Err(Stop::Port));
    assert_eq!(interpreter.cpu.port.take(), Some(expected));
    interpreter.cpu.port_answer = Some(value);
    let result = interpreter.step();
    interpreter.cpu.port_answer = None;
    result
}

#[test]
fn ports_fill_memory_element_by_element() {
    // rep insw
    let mut interpreter = interpreter(&[0xf3, 0x66, 0x6d]);
    interpreter.cpu.regs[usize::from(RDX)] = 0xffff_01f0;
    point(&mut interpreter.cpu, 0, DATA, 2);
    let access = PortAccess { port: 0x1f0, size: 2, write: None };
    assert_eq!(answer(&mut interpreter, access, 0x1122), Err(Stop::Again));
    assert_eq!(answer(&mut interpreter, access, 0x3344), Ok(()));
    assert_eq!(pointers(&interpreter.cpu), (0, DATA + 4, 0));
    assert_eq!(load::<u64>(&interpreter.cpu, DATA), 0x3344_1122);
}

#[test]
fn memory_goes_to_ports_element_by_element() {
    // rep outsb
    let mut interpreter = interpreter(&[0xf3, 0x6e]);
    interpreter.cpu.regs[usize::from(RDX)] = 0x3f8;
    point(&mut interpreter.cpu, DATA, 0, 2);
    store(&interpreter.cpu, DATA, 0x2211u16);
    let access = |byte| PortAccess { port: 0x3f8, size: 1, write: Some(byte) };
    assert_eq!(answer(&mut interpreter, access(0x11), 0), Err(Stop::Again));
    assert_eq!(answer(&mut interpreter, access(0x22), 0), Ok(()));
    assert_eq!(pointers(&interpreter.cpu), (DATA + 2, 0, 0));
}

#[test]
fn a_port_is_not_read_for_memory_that_is_not_there() {
    // insd
    let mut interpreter = interpreter(&[0x6d]);
    unmap(&mut interpreter.cpu, OTHER);
    point(&mut interpreter.cpu, 0, OTHER - 2, 0);
    assert_eq!(interpreter.step(), Err(Stop::Fault));
    assert_eq!(interpreter.cpu.exception.and_then(|exception| exception.address), Some(OTHER));
    assert_eq!(interpreter.cpu.port, None);
}

#[test]
fn ring_3_needs_privilege_for_ports() {
    // outsb
    let mut interpreter = interpreter(&[0x6e]);
    interpreter.cpu.user = true;
    point(&mut interpreter.cpu, DATA, 0, 0);
    assert_eq!(interpreter.step(), Err(Stop::Fault));
    assert_eq!(interpreter.cpu.exception.map(|exception| exception.vector), Some(13));
    interpreter.cpu.flags.set(3 << 12);
    assert_eq!(interpreter.step(), Err(Stop::Port));
}
