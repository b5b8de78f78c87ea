//! Accesses to every device's registers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmm::fuzzing::Kind;

fuzz_target!(|data: &[u8]| {
    let [kind, rest @ ..] = data else { return };
    vmm::fuzzing::registers(Kind::ALL[usize::from(*kind) % Kind::ALL.len()], rest);
});
