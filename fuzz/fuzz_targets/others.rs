//! Queues of the entropy device, the balloon and persistent memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmm::fuzzing::Kind;

fuzz_target!(|data: &[u8]| {
    for kind in [Kind::Rng, Kind::Balloon, Kind::Pmem] {
        vmm::fuzzing::device(kind, data);
    }
});
