//! Filling a guest's buffer with random bytes.

use std::io;

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::memory::GuestMemory;
use crate::virtio::segments::Segments;

/// The most that one request gets, in bytes: a device may fill less than it was given (section 5.4.6.2), and a guest
/// must not keep the event loop busy with one buffer of 4 GiB.
pub const MAX_REQUEST: usize = 64 << 10;
/// Bytes taken from the host at a time.
const CHUNK: usize = 4096;

/// Fills the first bytes of `space`, [`MAX_REQUEST`] at most, and says how many.
///
/// # Errors
///
/// The host has no random bytes, or a part of `space` is not in guest memory; then none count as filled.
pub fn fill(memory: &GuestMemory, mut space: Segments) -> io::Result<u32> {
    let mut filled = 0;
    let mut rest = space.take_front(MAX_REQUEST);
    let mut chunk = [0; CHUNK];
    while !rest.is_empty() {
        let wanted = rest.len().min(CHUNK);
        let got = match getrandom(&mut chunk[..wanted], GetRandomFlags::empty()) {
            Ok(got) => got.min(wanted),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        rest.take_front(got).copy_from(memory, &chunk[..got])?;
        filled += got;
    }
    u32::try_from(filled).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress};

    use super::*;

    fn memory() -> GuestMemory {
        GuestMemory::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap()
    }

    #[test]
    fn fills_every_piece_and_nothing_beside() {
        let memory = memory();
        let mut space = Segments::default();
        for (address, length) in [(0x1000, 300), (0x2000, 5000)] {
            space.push(GuestAddress(address), length);
        }
        assert_eq!(fill(&memory, space).unwrap(), 5300);
        for (address, length) in [(0x1000, 300), (0x2000, 5000)] {
            let mut bytes = vec![0; length + 1];
            memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
            // No run of 16 zeros, where every byte is random: wrong once in 2^115 times.
            assert!(bytes[..length].chunks_exact(16).all(|run| run != [0; 16]), "{length} at {address:#x}");
            assert_eq!(bytes[length], 0);
        }
    }

    #[test]
    fn a_huge_buffer_is_filled_in_part() {
        let mut space = Segments::default();
        space.push(GuestAddress(0), 0x10_0000);
        assert_eq!(fill(&memory(), space).unwrap() as usize, MAX_REQUEST);
    }

    #[test]
    fn a_buffer_outside_of_memory_is_an_error() {
        for address in [0xf_fff0, 0x10_0000, u64::MAX - 4] {
            let mut space = Segments::default();
            space.push(GuestAddress(address), 32);
            assert!(fill(&memory(), space).is_err(), "{address:#x}");
        }
    }
}
