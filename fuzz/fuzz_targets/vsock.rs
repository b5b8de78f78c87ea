//! Queues and packets of a socket device.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmm::fuzzing::Kind;

fuzz_target!(|data: &[u8]| {
    vmm::fuzzing::device(Kind::Vsock, data);
});
