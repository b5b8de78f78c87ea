//! The guest buffers of one direction of a descriptor chain, as one run of bytes.
//!
//! A driver may cut a request into descriptors as it likes (virtio 1.2, section 2.7.4), so devices never look
//! at descriptors: they split, copy, or hand the whole run to one vectored system call.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use vm_memory::{Bytes, GuestAddress, GuestMemory as _, Permissions, VolatileSlice};

use crate::memory::GuestMemory;
use crate::sys::iovec;

/// Why guest buffers cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SegmentsError {
    /// A buffer is not in guest memory.
    #[error("{length} bytes at {address:#x} are not in guest memory")]
    NotInMemory {
        /// Guest physical address of the buffer.
        address: u64,
        /// Its length in bytes.
        length: u32,
    },
    /// Fewer bytes than the request needs.
    #[error("{wanted} bytes are needed and {available} are there")]
    TooShort {
        /// Bytes needed.
        wanted: usize,
        /// Bytes there.
        available: usize,
    },
}

impl From<SegmentsError> for io::Error {
    fn from(error: SegmentsError) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

/// A run of guest bytes in pieces. Addresses are unchecked until they are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    pieces: VecDeque<(GuestAddress, u32)>,
    length: usize,
}

impl Segments {
    /// Appends a piece; empty ones are left out.
    pub fn push(&mut self, address: GuestAddress, length: u32) {
        if length > 0 {
            self.pieces.push_back((address, length));
            self.length += length as usize;
        }
    }

    /// Total bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Number of pieces.
    pub fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// The pieces as ranges of guest physical addresses.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.pieces.iter().map(|(address, length)| address.0..address.0.saturating_add(u64::from(*length)))
    }

    /// Takes the first `count` bytes off (fewer if there are fewer).
    pub fn take_front(&mut self, count: usize) -> Segments {
        let mut front = Segments::default();
        while front.length < count
            && let Some((address, length)) = self.pieces.pop_front()
        {
            let wanted = u32::try_from(count - front.length).unwrap_or(u32::MAX);
            let taken = length.min(wanted);
            front.push(address, taken);
            self.length -= taken as usize;
            if taken < length {
                // Wrapping: an address at the very top is refused when it is used.
                let rest = GuestAddress(address.0.wrapping_add(u64::from(taken)));
                self.pieces.push_front((rest, length - taken));
            }
        }
        front
    }

    /// Takes the last byte off, the place of a block request's status.
    pub fn take_last_byte(&mut self) -> Option<Segments> {
        let (address, length) = self.pieces.pop_back()?;
        if length > 1 {
            self.pieces.push_back((address, length - 1));
        }
        self.length -= 1;
        let mut last = Segments::default();
        last.push(GuestAddress(address.0.wrapping_add(u64::from(length - 1))), 1);
        Some(last)
    }

    /// Copies the first bytes into all of `data`, without taking them off.
    ///
    /// # Errors
    ///
    /// Too few bytes, or they are not in guest memory.
    pub fn copy_to(&self, memory: &GuestMemory, data: &mut [u8]) -> Result<(), SegmentsError> {
        self.copy(data.len(), |address, range| memory.read_slice(&mut data[range], address).is_ok())
    }

    /// Copies all of `data` to the first bytes.
    ///
    /// # Errors
    ///
    /// Too few bytes, or they are not in guest memory.
    pub fn copy_from(&self, memory: &GuestMemory, data: &[u8]) -> Result<(), SegmentsError> {
        self.copy(data.len(), |address, range| memory.write_slice(&data[range], address).is_ok())
    }

    fn copy(
        &self,
        wanted: usize,
        mut one: impl FnMut(GuestAddress, Range<usize>) -> bool,
    ) -> Result<(), SegmentsError> {
        if wanted > self.length {
            return Err(SegmentsError::TooShort { wanted, available: self.length });
        }
        let mut done = 0;
        for &(address, length) in &self.pieces {
            let end = wanted.min(done + length as usize);
            if !one(address, done..end) {
                return Err(SegmentsError::NotInMemory { address: address.0, length });
            }
            done = end;
            if done == wanted {
                break;
            }
        }
        Ok(())
    }

    /// The run as slices of mapped guest memory, for a vectored system call.
    ///
    /// # Errors
    ///
    /// A piece is not in guest memory.
    pub fn slices<'a>(
        &self,
        memory: &'a GuestMemory,
        access: Permissions,
    ) -> Result<Vec<VolatileSlice<'a>>, SegmentsError> {
        let mut slices = Vec::with_capacity(self.pieces.len());
        for &(address, length) in &self.pieces {
            let outside = |_| SegmentsError::NotInMemory { address: address.0, length };
            for slice in memory.get_slices(address, length as usize, access).map_err(outside)? {
                slices.push(slice.map_err(outside)?);
            }
        }
        Ok(slices)
    }

    /// Fills the run from `file` at byte `offset`, all of it, straight into guest memory.
    ///
    /// # Errors
    ///
    /// Pieces outside of guest memory, the end of the file, or what the system call says.
    pub fn fill_from_file(
        mut self,
        memory: &GuestMemory,
        file: impl AsFd,
        mut offset: u64,
    ) -> io::Result<()> {
        while !self.is_empty() {
            let slices = self.slices(memory, Permissions::Write)?;
            let count = iovec::read_at(&file, &slices, offset)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.take_front(count);
            offset += count as u64;
        }
        Ok(())
    }

    /// Writes the run to `file` at byte `offset`, all of it, straight from guest memory.
    ///
    /// # Errors
    ///
    /// Pieces outside of guest memory, or what the system call says.
    pub fn write_to_file(mut self, memory: &GuestMemory, file: impl AsFd, mut offset: u64) -> io::Result<()> {
        while !self.is_empty() {
            let slices = self.slices(memory, Permissions::Read)?;
            let count = iovec::write_at(&file, &slices, offset)?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.take_front(count);
            offset += count as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pieces = &'static [(u64, u32)];

    fn run(pieces: &[(u64, u32)]) -> Segments {
        let mut segments = Segments::default();
        for &(address, length) in pieces {
            segments.push(GuestAddress(address), length);
        }
        segments
    }

    fn memory() -> GuestMemory {
        GuestMemory::from_ranges(&[(GuestAddress(0), 0x1000), (GuestAddress(0x1000), 0x1000)]).unwrap()
    }

    #[test]
    fn splits_anywhere() {
        let cases: [(usize, Pieces, Pieces); 5] = [
            (0, &[], &[(0x10, 4), (0x20, 4)]),
            (3, &[(0x10, 3)], &[(0x13, 1), (0x20, 4)]),
            (4, &[(0x10, 4)], &[(0x20, 4)]),
            (6, &[(0x10, 4), (0x20, 2)], &[(0x22, 2)]),
            (99, &[(0x10, 4), (0x20, 4)], &[]),
        ];
        for (count, front, rest) in cases {
            let mut segments = run(&[(0x10, 4), (0x18, 0), (0x20, 4)]);
            assert_eq!(segments.take_front(count), run(front), "{count}");
            assert_eq!(segments, run(rest), "{count}");
        }
    }

    #[test]
    fn takes_the_last_byte_wherever_it_is() {
        let mut segments = run(&[(0x10, 4), (0x20, 2)]);
        assert_eq!(segments.take_last_byte(), Some(run(&[(0x21, 1)])));
        assert_eq!(segments.take_last_byte(), Some(run(&[(0x20, 1)])));
        assert_eq!(segments.take_last_byte(), Some(run(&[(0x13, 1)])));
        assert_eq!(segments, run(&[(0x10, 3)]));
        assert_eq!(run(&[]).take_last_byte(), None);
    }

    #[test]
    fn copies_across_pieces_and_regions() {
        let memory = memory();
        let segments = run(&[(0xffe, 4), (0x10, 3)]);
        segments.copy_from(&memory, b"abcdefg").unwrap();
        let mut back = [0; 7];
        segments.copy_to(&memory, &mut back).unwrap();
        assert_eq!(&back, b"abcdefg");
        assert_eq!(memory.read_obj::<[u8; 2]>(GuestAddress(0x1000)).unwrap(), *b"cd");
        assert_eq!(segments.slices(&memory, Permissions::Read).unwrap().len(), 3);
    }

    #[test]
    fn refuses_what_is_too_short_or_outside() {
        let memory = memory();
        assert!(matches!(
            run(&[(0, 3)]).copy_from(&memory, b"abcd"),
            Err(SegmentsError::TooShort { wanted: 4, available: 3 })
        ));
        for outside in [0x1ffd, 0x2000, u64::MAX - 1] {
            assert!(run(&[(outside, 4)]).copy_from(&memory, b"abcd").is_err(), "{outside:#x}");
            assert!(run(&[(outside, 4)]).slices(&memory, Permissions::Write).is_err(), "{outside:#x}");
        }
    }

    #[test]
    fn reads_and_writes_files_in_place() {
        let memory = memory();
        let file = tempfile::tempfile().unwrap();
        run(&[(0xffe, 4), (0x10, 3)]).copy_from(&memory, b"abcdefg").unwrap();
        run(&[(0xffe, 4), (0x10, 3)]).write_to_file(&memory, &file, 5).unwrap();
        run(&[(0x100, 7)]).fill_from_file(&memory, &file, 5).unwrap();
        assert_eq!(memory.read_obj::<[u8; 7]>(GuestAddress(0x100)).unwrap(), *b"abcdefg");
        let beyond = run(&[(0x100, 8)]).fill_from_file(&memory, &file, 5).unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
    }
}
