//! Undoes LZ4 as the kernel's build applies it (`lz4 -l`, the "legacy" frame): a magic number, then blocks that each
//! give at most 8 MiB and do not refer to one another. Debian's kernels are packed this way.
//!
//! lz4: doc/lz4_Frame_format.md, "Legacy frame"; kernel: lib/decompress_unlz4.c.

use std::io::{self, Read};

/// The number that a frame starts with.
pub(super) const MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// Most bytes that a block unpacks to.
const BLOCK: usize = 8 << 20;
/// Most bytes that a block takes packed, when nothing in it repeats.
const PACKED_MAX: usize = BLOCK + BLOCK / 255 + 16;

/// A reader of what a frame holds. Bytes behind the last block, where a bzImage has the kernel's length, end it when
/// they are no block.
pub(super) struct Lz4Reader<R> {
    packed: R,
    packed_block: Vec<u8>,
    block: Vec<u8>,
    /// How much of `block` has been read, and how much there is.
    position: usize,
    len: usize,
}

impl<R: Read> Lz4Reader<R> {
    /// A reader of the frame that `packed` starts with.
    pub(super) fn new(packed: R) -> Self {
        Self { packed, packed_block: Vec::new(), block: Vec::new(), position: 0, len: 0 }
    }

    /// Unpacks the next block; whether there was one.
    fn next_block(&mut self) -> io::Result<bool> {
        let mut len = [0; 4];
        loop {
            match self.packed.read_exact(&mut len) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                result => result?,
            }
            if len != MAGIC {
                break;
            }
        }
        let packed_len = usize::try_from(u32::from_le_bytes(len)).unwrap_or(usize::MAX);
        if packed_len > PACKED_MAX {
            return Ok(false);
        }
        self.packed_block.clear();
        let read = (&mut self.packed).take(packed_len as u64).read_to_end(&mut self.packed_block)?;
        if read < packed_len {
            return Ok(false);
        }
        self.block.resize(BLOCK, 0);
        self.len = lz4_flex::block::decompress_into(&self.packed_block, &mut self.block)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.position = 0;
        Ok(true)
    }
}

impl<R: Read> Read for Lz4Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.len {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let ready = self.block.get(self.position..self.len).unwrap_or_default();
        let len = ready.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..len), ready.get(..len)) {
            to.copy_from_slice(from);
        }
        self.position += len;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `text` as the kernel's build packs it, a bzImage's length behind it.
    fn pack(text: &[u8]) -> Vec<u8> {
        let mut packed = MAGIC.to_vec();
        for block in text.chunks(BLOCK) {
            let block = lz4_flex::block::compress(block);
            packed.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
            packed.extend(block);
        }
        packed.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        packed
    }

    fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        Lz4Reader::new(packed).read_to_end(&mut text).map(|_| text)
    }

    #[test]
    fn several_blocks_are_undone_with_a_length_behind_them() {
        for text in [b"kernel".repeat(1000), (0..=250u8).cycle().take(BLOCK + 77).collect()] {
            assert!(unpack(&pack(&text)).unwrap() == text);
        }
    }

    #[test]
    fn what_is_no_block_is_an_error_or_the_end_and_takes_no_more_memory_than_a_block() {
        let block =
            |bytes: &[u8]| [&MAGIC[..], &u32::try_from(bytes.len()).unwrap().to_le_bytes(), bytes].concat();
        assert!(unpack(&block(&[0xff; 64])).is_err(), "it refers to what is not there");
        // One literal, then a match of 16 MiB.
        let mut bomb = vec![0x1f, b'x', 1, 0];
        bomb.extend([0xff; (16 << 20) / 255]);
        bomb.push(0);
        assert!(unpack(&block(&bomb)).is_err(), "it unpacks to more than a block may");
        assert_eq!(unpack(&[&MAGIC[..], &u32::MAX.to_le_bytes(), b"more"].concat()).unwrap(), b"");
        assert_eq!(unpack(&pack(b"kernel payload")[..12]).unwrap(), b"");
    }
}
