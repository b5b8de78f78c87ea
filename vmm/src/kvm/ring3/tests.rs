//! Programs of a few bytes in a hand-made guest, under the host's KVM.

mod guest;

use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestAddress};

use super::*;
use guest::*;

/// `ud2`, which ends most of the programs.
const UD2: [u8; 2] = [0x0f, 0x0b];
/// `mov rax, [DATA]`, `ud2`.
const READ: [u8; 10] = [0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 1, 0x0f, 0x0b];
/// `mov [DATA], rax`, `ud2`.
const WRITE: [u8; 10] = [0x48, 0x89, 0x04, 0x25, 0, 0, 0, 1, 0x0f, 0x0b];
/// `jmp` to itself.
const LOOP: [u8; 2] = [0xeb, 0xfe];
const SYSCALL: [u8; 2] = [0x0f, 0x05];
const INT3: [u8; 1] = [0xcc];

#[test]
fn exceptions_arrive_at_their_handler_with_the_frame_pushed() {
    let Some(mut guest) = Guest::new() else { return };
    let cases: [(&str, &[u8], u64, u64, u64); 8] = [
        ("ud2", &UD2, 6, 0, 0),
        ("int3", &INT3, 3, 1, 0),
        ("div by zero", &[0x31, 0xc9, 0xf7, 0xf1], 0, 2, 0),
        ("hlt", &[0xf4], 13, 0, 0),
        ("cli", &[0xfa], 13, 0, 0),
        ("mov rax, cr0", &[0x0f, 0x20, 0xc0], 13, 0, 0),
        ("out without permission", &[0xe6, 0x80], 13, 0, 0),
        ("not canonical", &[0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0xf0, 0x0f, 0x8b, 0x00], 13, 10, 0),
    ];
    for (name, code, expected, rip, error) in cases {
        let state = guest.run(code);
        let frame = guest.frame(&state);
        assert_eq!((vector(&state), frame.rip, frame.error), (expected, CODE + rip, error), "{name}");
        assert_eq!((frame.cs, frame.rsp, frame.rflags & 0x200), (0x33, STACK, 0x200), "{name}");
        assert_eq!((state.sregs.cs.selector, state.sregs.ss.dpl, state.regs.rflags & 0x200), (0x10, 0, 0));
        assert_eq!(state.regs.rsp & !0xff, (KERNEL_STACK - 0x100) & !0xff, "{name}");
    }
}

#[test]
fn page_faults_come_with_address_and_error_code() {
    let Some(mut guest) = Guest::new() else { return };
    guest.put(DATA_TABLE + 8, 0);
    guest.put(DATA_TABLE, DATA_PHYSICAL | 5);
    let kernel_read = [0x48, 0x8b, 0x04, 0x25, 0, 0, 0x10, 0x80];
    let absent_read = [0x48, 0x8b, 0x04, 0x25, 8, 0x10, 0, 1];
    // `jmp rax` to the last two bytes of the first data page, where an instruction of eight bytes begins.
    let straddle = [0xb8, 0xfe, 0x0f, 0, 1, 0xff, 0xe0];
    guest.memory.write_slice(&READ[..2], GuestAddress(DATA_PHYSICAL + 0xffe)).unwrap();
    let cases: [(&str, &[u8], u64, u64); 4] = [
        ("absent", &absent_read, DATA + 0x1008, 4),
        ("read-only", &WRITE, DATA, 7),
        ("the kernel's", &kernel_read, HIGH + 0x10_0000, 5),
        ("an instruction that goes on in an absent page", &straddle, DATA + 0x1000, 0x14),
    ];
    for (name, code, address, error) in cases {
        let state = guest.run(code);
        let frame = guest.frame(&state);
        assert_eq!((vector(&state), state.sregs.cr2, frame.error), (14, address, error), "{name}");
    }
}

fn assert_system_call(state: &Ring3State) {
    assert_eq!((state.regs.rip, state.regs.rcx, state.regs.rsp), (LSTAR, CODE + 2, STACK));
    assert_eq!((state.regs.r11 & 0xed7, state.regs.rflags), (0x202, 2));
    assert_eq!((state.sregs.cs.selector, state.sregs.cs.dpl, state.sregs.cs.l), (0x10, 0, 1));
    assert_eq!((state.sregs.ss.selector, state.sregs.ss.dpl), (0x18, 0));
    assert_eq!(state.sregs.cr2, 0x77, "a system call is no page fault");
}

#[test]
fn a_system_call_is_as_the_cpu_makes_it() {
    let Some(mut guest) = Guest::new() else { return };
    let mut state = guest.state(&SYSCALL);
    assert_eq!(guest.enter(&mut state).unwrap(), Ring3Exit::Syscall);
    assert_system_call(&state);
}

#[test]
fn a_program_that_jumps_to_the_system_call_entry_faults() {
    let Some(mut guest) = Guest::new() else { return };
    let state = guest.run(&[0x48, 0xc7, 0xc0, 0, 0x40, 0x11, 0x80, 0xff, 0xe0]);
    let frame = guest.frame(&state);
    assert_eq!((vector(&state), state.sregs.cr2, frame.error, frame.rip), (14, LSTAR, 0x15, LSTAR));
}

#[test]
fn a_software_interrupt_is_either_delivered_or_left_to_the_interpreter() {
    let Some(mut guest) = Guest::new() else { return };
    let mut state = guest.state(&[0xcd, 0x80]);
    state.regs.rflags = 0xa46;
    let before = state.clone();
    match guest.enter(&mut state).unwrap() {
        Ring3Exit::Kernel => {
            let frame = guest.frame(&state);
            assert_eq!((vector(&state), frame.rip), (0x80, CODE + 2));
        }
        Ring3Exit::Interpret => {
            assert_eq!(state.regs, before.regs);
            assert_eq!((state.sregs.cs, state.sregs.ss), (before.sregs.cs, before.sregs.ss));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_single_step_arrives_on_its_own_stack_and_says_so() {
    let Some(mut guest) = Guest::new() else { return };
    let mut state = guest.state(&[0x90, 0x90]);
    state.regs.rflags = 0x302;
    assert_eq!(guest.enter(&mut state).unwrap(), Ring3Exit::Kernel);
    let frame = guest.frame(&state);
    assert_eq!((vector(&state), frame.rip, frame.rflags), (1, CODE + 1, 0x302));
    assert_eq!(state.regs.rsp, DEBUG_STACK - 40);
    assert_eq!(guest.ring3.take_debug_status().unwrap() & 0x400f, 0x4000);
    assert_eq!(guest.ring3.take_debug_status().unwrap() & 0x400f, 0);
}

#[test]
fn segment_bases_survive_the_way_there_and_back() {
    let Some(mut guest) = Guest::new() else { return };
    guest.put(DATA_PHYSICAL + 0x100, 0xf5);
    guest.put(DATA_PHYSICAL + 0x200, 0x65);
    // mov rax, fs:[0]; mov rbx, gs:[0]; ud2
    let code =
        [0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0, 0x65, 0x48, 0x8b, 0x1c, 0x25, 0, 0, 0, 0, 0x0f, 0x0b];
    let state = guest.run(&code);
    assert_eq!((state.regs.rax, state.regs.rbx), (0xf5, 0x65));
    assert_eq!((state.sregs.fs.base, state.sregs.gs.base), (DATA + 0x100, DATA + 0x200));
}

#[test]
fn the_time_stamp_counter_is_the_hosts() {
    let Some(mut guest) = Guest::new() else { return };
    let before = tsc();
    // rdtsc; shl rdx, 32; or rax, rdx; ud2
    let state = guest.run(&[0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xd0, 0x0f, 0x0b]);
    assert!((before..=tsc()).contains(&state.regs.rax), "{before} {}", state.regs.rax);
}

#[test]
fn time_is_up_when_it_is() {
    let Some(mut guest) = Guest::new() else { return };
    let mut state = guest.state(&LOOP);
    let khz = u64::from(guest.ring3.tsc_khz);
    for milliseconds in [20, 5, 1] {
        let until = tsc() + khz * milliseconds;
        assert_eq!(guest.enter_until(&mut state, Some(until)).unwrap(), Ring3Exit::Kicked);
        assert!(tsc() >= until, "left too early");
        assert_eq!(state.regs.rip, CODE);
    }
    let past = Some(tsc() - 1);
    assert_eq!(guest.enter_until(&mut state, past).unwrap(), Ring3Exit::Kicked);
}

#[test]
fn an_alarm_that_was_set_for_earlier_does_not_count() {
    let Some(mut guest) = Guest::new() else { return };
    let khz = u64::from(guest.ring3.tsc_khz);
    // On a busy host the alarm may come first.
    let mut state = guest.state(&UD2);
    while guest.enter_until(&mut state, Some(tsc() + khz * 10)).unwrap() != Ring3Exit::Kernel {}
    let until = tsc() + khz * 40;
    let mut state = guest.state(&LOOP);
    assert_eq!(guest.enter_until(&mut state, Some(until)).unwrap(), Ring3Exit::Kicked);
    assert!(tsc() >= until);
}

#[test]
fn a_kick_before_the_entry_and_one_during_it_end_ring_3() {
    let Some(mut guest) = Guest::new() else { return };
    let mut state = guest.state(&LOOP);
    guest.ring3.adopt_thread().unwrap();
    let kicker = guest.ring3.kicker();
    kicker.kick().unwrap();
    assert_eq!(guest.enter(&mut state).unwrap(), Ring3Exit::Kicked);
    let during = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(10));
        kicker.kick().unwrap();
    });
    assert_eq!(guest.enter(&mut state).unwrap(), Ring3Exit::Kicked);
    during.join().unwrap();
    assert_eq!(state.regs.rip, CODE);
}

/// Runs `code` with kicks at every stage of its way into the kernel, many times over.
fn storm(guest: &mut Guest, code: &[u8], check: impl Fn(&Guest, Ring3Exit, &Ring3State)) {
    let end = Instant::now() + Duration::from_millis(400);
    let mut kicks = 0;
    let mut wait = 0;
    while Instant::now() < end {
        let mut state = guest.state(code);
        let exit = loop {
            wait = (wait + 1_777) % 120_000;
            match guest.enter_until(&mut state, Some(tsc() + wait)).unwrap() {
                Ring3Exit::Kicked => kicks += 1,
                exit => break exit,
            }
            assert_eq!(state.regs.rip, CODE, "kicked between an instruction and its effect");
        };
        check(guest, exit, &state);
    }
    assert!(kicks > 0, "no kick came in between");
}

#[test]
fn kicks_lose_no_exceptions() {
    let Some(mut guest) = Guest::new() else { return };
    storm(&mut guest, &INT3, |guest, exit, state| {
        assert_eq!((exit, vector(state), guest.frame(state).rip), (Ring3Exit::Kernel, 3, CODE + 1));
    });
    storm(&mut guest, &UD2, |guest, exit, state| {
        assert_eq!((exit, vector(state), guest.frame(state).rip), (Ring3Exit::Kernel, 6, CODE));
    });
}

#[test]
fn kicks_lose_no_system_calls() {
    let Some(mut guest) = Guest::new() else { return };
    storm(&mut guest, &SYSCALL, |_, exit, state| {
        assert_eq!(exit, Ring3Exit::Syscall);
        assert_system_call(state);
    });
}

#[test]
fn a_loop_behind_a_breakpoint_can_be_kicked() {
    let Some(mut guest) = Guest::new() else { return };
    let mut state = guest.state(&[0xcc, 0xeb, 0xfe]);
    state.regs.rip += 1;
    let until = Some(tsc() + 1_000_000);
    assert_eq!(guest.enter_until(&mut state, until).unwrap(), Ring3Exit::Kicked);
    assert_eq!(state.regs.rip, CODE + 1);
}

#[test]
fn changed_page_tables_count_after_a_flush_and_new_pages_at_once() {
    let Some(mut guest) = Guest::new() else { return };
    guest.put(DATA_PHYSICAL, 0xaaaa);
    guest.put(DATA_PHYSICAL + 0x1000, 0xbbbb);
    assert_eq!(guest.run(&READ).regs.rax, 0xaaaa);
    guest.put(DATA_TABLE, (DATA_PHYSICAL + 0x1000) | 7);
    guest.ring3.flush();
    assert_eq!(guest.run(&READ).regs.rax, 0xbbbb);

    guest.put(DATA_TABLE, 0);
    guest.ring3.flush();
    assert_eq!(vector(&guest.run(&READ)), 14);
    guest.put(DATA_TABLE, DATA_PHYSICAL | 7);
    assert_eq!(guest.run(&READ).regs.rax, 0xaaaa);
}

#[test]
fn accessed_and_dirty_bits_are_set() {
    let Some(mut guest) = Guest::new() else { return };
    guest.run(&READ);
    assert_eq!(guest.get(DATA_TABLE) & 0x60, 0x20);
    guest.run(&WRITE);
    assert_eq!(guest.get(DATA_TABLE) & 0x60, 0x60);
}

#[test]
fn a_new_interrupt_table_counts_at_once() {
    let Some(mut guest) = Guest::new() else { return };
    guest.run(&UD2);
    let elsewhere = HIGH + 0x20_0040;
    guest.set_gate(6, elsewhere);
    let mut state = guest.state(&UD2);
    assert_eq!(guest.enter(&mut state).unwrap(), Ring3Exit::Kernel);
    assert_eq!(state.regs.rip, elsewhere);
    guest.set_gate(6, HIGH + HANDLERS + 6 * 32);
    assert_eq!(vector(&guest.run(&UD2)), 6);
    assert_eq!(guest.get(0x20_0040), 0, "the guest's own page is untouched");
}

#[test]
fn hostile_interrupt_tables_end_the_guest_with_a_reason() {
    let Some(mut guest) = Guest::new() else { return };
    let died = guest.death(|state| state.sregs.idt.limit = 0, &UD2);
    assert!(died.contains("triple fault"), "{died}");
    let died = guest.death(|state| state.sregs.idt.base = 0x50_0000_0000, &UD2);
    assert!(died.contains("triple fault"), "{died}");
    for vector in 0..256 {
        guest.set_gate(vector, 0x1234_0000_0000_0000 + vector);
    }
    let died = guest.death(|_| {}, &UD2);
    assert!(died.starts_with("the guest died"), "{died}");
    for vector in 0..256 {
        guest.put(TABLE + vector * 16, 0);
    }
    let died = guest.death(|_| {}, &UD2);
    assert!(died.contains("triple fault"), "{died}");
}

#[test]
fn as_many_handler_pages_as_there_are_gates_are_fine() {
    let Some(mut guest) = Guest::new() else { return };
    for vector in 0..256 {
        guest.set_gate(vector, HIGH + 0xc0_0000 + vector * 0x2000);
    }
    let mut state = guest.state(&UD2);
    assert_eq!(guest.enter(&mut state).unwrap(), Ring3Exit::Kernel);
    assert_eq!(state.regs.rip, HIGH + 0xc0_0000 + 6 * 0x2000);
}

#[test]
fn a_program_that_writes_to_a_handlers_page_ends_the_guest() {
    let Some(mut guest) = Guest::new() else { return };
    guest.put(DATA_TABLE, HANDLERS | 7);
    let died = guest.death(|_| {}, &WRITE);
    assert!(died.contains("a program wrote to 0x110000"), "{died}");
}

#[test]
fn a_program_may_use_devices_that_the_kernel_gives_it() {
    let Some(mut guest) = Guest::new() else { return };
    guest.put(DATA_TABLE, 0xd000_0007);
    let mut seen = Vec::new();
    let mut state = guest.state(&READ);
    let exit = guest
        .ring3
        .enter(&mut state, None, &mut |exit| {
            if let Exit::MmioRead { address, data } = exit {
                seen.push(address);
                data.fill(0x5a);
            }
            Action::Resume
        })
        .unwrap();
    assert_eq!((exit, state.regs.rip), (Ring3Exit::Accessed(Action::Resume), CODE + 8));
    assert_eq!((seen.as_slice(), state.regs.rax), ([0xd000_0000].as_slice(), 0x5a5a_5a5a_5a5a_5a5a));

    // A permission map that begins where the task state's limit still reaches permits ports 0 to 7: `out 0, al`.
    guest.memory.write_obj(0x60u16, GuestAddress(TASK + 0x66)).unwrap();
    let mut state = guest.state(&[0xe6, 0x00, 0x0f, 0x0b]);
    let mut ports = Vec::new();
    let exit = guest.ring3.enter(&mut state, None, &mut |exit| {
        if let Exit::PortWrite { port, data } = exit {
            ports.push((port, data.to_vec()));
        }
        Action::Stop(crate::machine::VmExit::Reset)
    });
    assert_eq!(exit.unwrap(), Ring3Exit::Accessed(Action::Stop(crate::machine::VmExit::Reset)));
    assert_eq!((ports, state.regs.rip), (vec![(0, vec![0])], CODE + 2));
}

#[test]
fn fpu_state_travels_both_ways() {
    let Some(mut guest) = Guest::new() else { return };
    let mut fpu = guest.ring3.extended_state().unwrap();
    // XMM0, and in the header that the SSE state is in use.
    fpu[160..168].copy_from_slice(&0x1122_3344_5566_7788u64.to_le_bytes());
    fpu[512] |= 0b10;
    guest.ring3.set_extended_state(&fpu).unwrap();
    // movq rax, xmm0; mov ebx, 7; movq xmm1, rbx; ud2
    let code = [0x66, 0x48, 0x0f, 0x7e, 0xc0, 0xbb, 7, 0, 0, 0, 0x66, 0x48, 0x0f, 0x6e, 0xcb, 0x0f, 0x0b];
    assert_eq!(guest.run(&code).regs.rax, 0x1122_3344_5566_7788);
    let fpu = guest.ring3.extended_state().unwrap();
    assert_eq!(fpu[176..184], 7u64.to_le_bytes());

    guest.ring3.set_xcr0(3).unwrap();
    assert!(guest.ring3.set_xcr0(0).is_err(), "the x87 state cannot be off");
}

#[test]
fn registers_that_no_cpu_has_end_the_guest_with_a_reason() {
    let Some(mut guest) = Guest::new() else { return };
    let died = guest.death(|state| state.sregs.cr4 = u64::MAX, &UD2);
    assert!(died.contains("refused the registers"), "{died}");
}
