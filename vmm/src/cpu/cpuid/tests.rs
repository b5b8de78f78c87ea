//! What each of a few processors says, of one input that has all the leaves that are changed.

use expect_test::{Expect, expect};

use super::*;

fn leaf(function: u32, index: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 { function, index, eax, ebx, ecx, edx, ..Default::default() }
}

/// Leaves as KVM gives them on a host with eight cores of two threads, this one being number 3.
fn supported() -> Vec<kvm_cpuid_entry2> {
    vec![
        leaf(0x0, 0, [0x1f, 0x6874_7541, 0x444d_4163, 0x6974_6e65]),
        leaf(0x1, 0, [0x00a1_0f11, 0x0310_0800, 0x7ef8_3203, 0x178b_fbff]),
        leaf(0x4, 0, [0x1c00_c121, 0x01c0_003f, 0x3f, 0]),
        leaf(0x4, 2, [0x1c00_c143, 0x01c0_003f, 0x7ff, 0]),
        leaf(0x4, 3, [0x1c03_c163, 0x03c0_003f, 0x7fff, 1]),
        leaf(0x4, 4, [0, 0, 0, 0]),
        leaf(0xb, 0, [0, 0, 0, 3]),
        leaf(0x4000_0001, 0, [0x0100_7efb, 0, 0, 0]),
        leaf(0x8000_0001, 0, [0x00a1_0f11, 0, 0x0040_03f3, 0x2fd3_fbff]),
        leaf(0x8000_0008, 0, [0x3030, 0x0100_d20d, 0x700f, 0]),
        leaf(0x8000_001d, 0, [0x4121, 0x01c0_003f, 0x3f, 0]),
        leaf(0x8000_001d, 3, [0x3c163, 0x03c0_003f, 0x7fff, 1]),
        leaf(0x8000_001e, 0, [3, 0x103, 0x101, 0]),
        leaf(0x8000_0026, 0, [1, 2, 0x100, 3]),
    ]
}

fn check(place: Place, expected: &Expect) {
    let text: String = of_processor(&supported(), place, true)
        .iter()
        .map(|e| {
            let (eax, ebx, ecx, edx) = (e.eax, e.ebx, e.ecx, e.edx);
            format!("{:08x}.{}: {eax:08x} {ebx:08x} {ecx:08x} {edx:08x}\n", e.function, e.index)
        })
        .collect();
    expected.assert_eq(&text);
}

#[test]
fn a_processor_alone() {
    check(
        Place::ALONE,
        &expect![[r#"
        00000000.0: 0000001f 68747541 444d4163 69746e65
        00000001.0: 00a10f11 00010800 fff83203 078bfbff
        00000004.0: 00000121 01c0003f 0000003f 00000000
        00000004.2: 00000143 01c0003f 000007ff 00000000
        00000004.3: 00000163 03c0003f 00007fff 00000001
        00000004.4: 00000000 00000000 00000000 00000000
        40000001.0: 01007efb 00000000 00000000 00000000
        80000001.0: 00a10f11 00000000 004003f1 2fd3fbff
        80000008.0: 00003030 0100d20d 00000000 00000000
        8000001d.0: 00000121 01c0003f 0000003f 00000000
        8000001d.3: 00000163 03c0003f 00007fff 00000001
        8000001e.0: 00000000 00000000 00000000 00000000
        0000000b.0: 00000000 00000001 00000100 00000000
        0000000b.1: 00000000 00000001 00000201 00000000
        0000000b.2: 00000000 00000000 00000002 00000000
        0000001f.0: 00000000 00000001 00000100 00000000
        0000001f.1: 00000000 00000001 00000201 00000000
        0000001f.2: 00000000 00000000 00000002 00000000
    "#]],
    );
}

#[test]
fn the_second_of_two() {
    check(
        Place { id: 1, cpus: 2 },
        &expect![[r#"
        00000000.0: 0000001f 68747541 444d4163 69746e65
        00000001.0: 00a10f11 01020800 fff83203 178bfbff
        00000004.0: 04000121 01c0003f 0000003f 00000000
        00000004.2: 04000143 01c0003f 000007ff 00000000
        00000004.3: 04004163 03c0003f 00007fff 00000001
        00000004.4: 00000000 00000000 00000000 00000000
        40000001.0: 01007efb 00000000 00000000 00000000
        80000001.0: 00a10f11 00000000 004003f3 2fd3fbff
        80000008.0: 00003030 0100d20d 00001001 00000000
        8000001d.0: 00000121 01c0003f 0000003f 00000000
        8000001d.3: 00004163 03c0003f 00007fff 00000001
        8000001e.0: 00000001 00000001 00000000 00000000
        0000000b.0: 00000000 00000001 00000100 00000001
        0000000b.1: 00000001 00000002 00000201 00000001
        0000000b.2: 00000000 00000000 00000002 00000001
        0000001f.0: 00000000 00000001 00000100 00000001
        0000001f.1: 00000001 00000002 00000201 00000001
        0000001f.2: 00000000 00000000 00000002 00000001
    "#]],
    );
}

#[test]
fn the_third_of_four() {
    check(
        Place { id: 2, cpus: 4 },
        &expect![[r#"
        00000000.0: 0000001f 68747541 444d4163 69746e65
        00000001.0: 00a10f11 02040800 fff83203 178bfbff
        00000004.0: 0c000121 01c0003f 0000003f 00000000
        00000004.2: 0c000143 01c0003f 000007ff 00000000
        00000004.3: 0c00c163 03c0003f 00007fff 00000001
        00000004.4: 00000000 00000000 00000000 00000000
        40000001.0: 01007efb 00000000 00000000 00000000
        80000001.0: 00a10f11 00000000 004003f3 2fd3fbff
        80000008.0: 00003030 0100d20d 00002003 00000000
        8000001d.0: 00000121 01c0003f 0000003f 00000000
        8000001d.3: 0000c163 03c0003f 00007fff 00000001
        8000001e.0: 00000002 00000002 00000000 00000000
        0000000b.0: 00000000 00000001 00000100 00000002
        0000000b.1: 00000002 00000004 00000201 00000002
        0000000b.2: 00000000 00000000 00000002 00000002
        0000001f.0: 00000000 00000001 00000100 00000002
        0000001f.1: 00000002 00000004 00000201 00000002
        0000001f.2: 00000000 00000000 00000002 00000002
    "#]],
    );
}

#[test]
fn a_number_that_is_no_power_of_two_takes_the_bits_of_the_next() {
    let entries = of_processor(&supported(), Place { id: 4, cpus: 5 }, false);
    let find =
        |function, index| *entries.iter().find(|e| (e.function, e.index) == (function, index)).unwrap();
    assert_eq!((find(0xb, 1).eax, find(0xb, 1).ebx, find(0xb, 1).edx), (3, 5, 4));
    assert_eq!(find(0x4, 3).eax >> 26, 7);
    assert_eq!(find(0x1, 0).ecx & TSC_DEADLINE, 0);
}

#[test]
fn more_processors_than_old_fields_can_say_do_not_spill_over() {
    let entries = of_processor(&supported(), Place { id: 299, cpus: 300 }, true);
    let find =
        |function, index| *entries.iter().find(|e| (e.function, e.index) == (function, index)).unwrap();
    assert_eq!(find(0x1, 0).ebx, 0x2bff_0800);
    assert_eq!((find(0xb, 1).eax, find(0xb, 1).ebx, find(0xb, 1).edx), (9, 300, 299));
    assert_eq!(find(0x8000_0008, 0).ecx, 0x90ff);
}

#[test]
fn a_cpu_without_extended_topology_gets_none() {
    let old: Vec<_> = [leaf(0x0, 0, [0x7, 0, 0, 0]), leaf(0x1, 0, [0, 0, 0, 0])].into();
    assert_eq!(of_processor(&old, Place { id: 1, cpus: 2 }, true).len(), 2);
}
