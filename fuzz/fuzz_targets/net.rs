//! Queues and frames of a network card.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmm::fuzzing::Kind;

fuzz_target!(|data: &[u8]| {
    vmm::fuzzing::device(Kind::Net, data);
});
