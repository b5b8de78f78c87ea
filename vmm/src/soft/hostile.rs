//! Guests that do anything at all: whatever bytes run with whatever registers, the VMM goes on.

use proptest::prelude::*;

use super::cpu::Cpu;
use super::exception::{self, Event};
use super::extended::Extended;
use super::interpreter::Pause;
use super::step::Stop;
use super::testing::{CODE, DATA, interpreter};

/// Instructions to run of each program.
const STEPS: usize = 100;

/// Numbers that are interesting as addresses, counts and operands.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0..0x20_0000u64,
        Just(DATA),
        Just(CODE),
        Just(0x1f_fff8),
        Just(0xffff_8000_0000_0000),
        Just(u64::MAX),
        any::<u8>().prop_map(u64::from),
    ]
}

/// Does what the engine would.
fn go_on(cpu: &mut Cpu, stop: Stop) -> bool {
    match stop {
        Stop::Done | Stop::Again | Stop::Code => true,
        Stop::Halt | Stop::Unknown => false,
        Stop::Extended => {
            cpu.extended = Some(Extended::new(Box::new([0; 4096])));
            true
        }
        Stop::Port => {
            cpu.port = None;
            cpu.port_answer = Some(0xffff_ffff);
            true
        }
        Stop::Device => {
            if let Some(access) = cpu.device.take() {
                cpu.answered.push((access, u64::MAX));
            }
            true
        }
        Stop::Fault => match cpu.exception.take() {
            Some(exception) => exception::deliver(cpu, Event::Exception(exception)).is_ok(),
            None => false,
        },
    }
}

proptest! {
    #[test]
    fn no_program_ends_the_vmm(
        code in prop::collection::vec(any::<u8>(), 1..64),
        registers in prop::array::uniform16(value()),
        flags in any::<u64>(),
    ) {
        let mut interpreter = interpreter(&code);
        interpreter.cpu.regs[..16].copy_from_slice(&registers);
        interpreter.cpu.flags.set(flags);
        for _ in 0..STEPS {
            if let Err(stop) = interpreter.step()
                && !go_on(&mut interpreter.cpu, stop)
            {
                break;
            }
        }
    }

    #[test]
    fn no_program_ends_the_vmm_in_blocks_either(
        code in prop::collection::vec(prop_oneof![Just(0x48u8), Just(0x0f), Just(0xf3), Just(0x66), any::<u8>()], 1..64),
        registers in prop::array::uniform16(value()),
    ) {
        let mut interpreter = interpreter(&code);
        interpreter.cpu.regs[..16].copy_from_slice(&registers);
        let calm = std::sync::atomic::AtomicBool::new(false);
        for _ in 0..STEPS {
            if let Pause::Stop(stop) = interpreter.run(10, &calm)
                && !go_on(&mut interpreter.cpu, stop)
            {
                break;
            }
        }
    }
}
