//! Where fuzzers come in: each function takes any bytes as what a guest, a file or a client says, and must return.
//!
//! `fuzz/` has a target for each; the tests here try each with a few hundred random inputs every time. Not part of the
//! product: behind the feature `fuzzing`.

mod bytes;
mod devices;
mod wire;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, memfd_create};

use crate::api;
use crate::boot;
use crate::memory::map_guest_ram;
use crate::snapshot;
use crate::soft;

pub use devices::{Kind, device, registers};

/// A kernel image.
pub fn kernel(bytes: &[u8]) {
    const RAM: u64 = 32 << 20;
    let Some((_file, path)) = file_of(bytes) else { return };
    let Ok(memory) = map_guest_ram(RAM) else { return };
    let _ = boot::load_kernel(&memory, RAM, &path);
}

/// What a client of the control API sends.
pub fn api(bytes: &[u8]) {
    api::fuzz(bytes);
}

/// A state file: as it is, and behind the line that a real one begins with, so that the rest is looked at.
pub fn snapshot(bytes: &[u8]) {
    let path = Path::new("state");
    let _ = snapshot::format::parse::<snapshot::Snapshot>(bytes, path);
    let _ = snapshot::format::parse::<snapshot::Snapshot>(&snapshot::format::with_line(bytes), path);
    if let Ok(text) = str::from_utf8(bytes) {
        devices::restore(text);
        soft::fuzz_controllers(text);
    }
}

/// A file in memory and its path.
fn file_of(bytes: &[u8]) -> Option<(File, PathBuf)> {
    let mut file = File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC).ok()?);
    file.write_all(bytes).ok()?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    Some((file, path))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..2000)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn any_guest_memory_is_answered_by_every_device(bytes in bytes()) {
            for kind in Kind::ALL {
                device(kind, &bytes);
            }
        }

        #[test]
        fn any_register_accesses_are_answered_by_every_device(bytes in bytes()) {
            for kind in Kind::ALL {
                registers(kind, &bytes);
            }
        }

        #[test]
        fn any_bytes_are_a_kernel_a_request_a_snapshot_or_an_error(bytes in bytes()) {
            kernel(&bytes);
            kernel(&[b"\x7fELF\x02\x01\x01".as_slice(), &bytes].concat());
            api(&bytes);
            api(&[b"PUT /drives/a HTTP/1.1\r\nContent-Length: 40\r\n\r\n".as_slice(), &bytes].concat());
            snapshot(&bytes);
        }
    }
}
