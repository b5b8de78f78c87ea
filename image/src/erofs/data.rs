//! The output file while data streams into it: whole blocks, one after the other.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};

use super::format::BLOCK;

/// A run of zeros at least this long becomes a hole.
const HOLE: usize = 64 << 10;

/// Appends blocks to a file. Runs of zeros become holes, so a layer of zeros takes no disk.
pub(super) struct BlockWriter<'a> {
    output: BufWriter<&'a mut File>,
    /// Bytes written or skipped so far; a multiple of [`BLOCK`] between calls of [`Self::pad`].
    position: u64,
}

impl<'a> BlockWriter<'a> {
    /// Starts behind block 0, which is left for the superblock.
    pub(super) fn new(output: &'a mut File) -> io::Result<Self> {
        output.set_len(0)?;
        output.seek(SeekFrom::Start(BLOCK))?;
        Ok(Self { output: BufWriter::with_capacity(256 << 10, output), position: BLOCK })
    }

    /// The block that is written next. EROFS has 32-bit block numbers: 16 TiB.
    pub(super) fn next_block(&self) -> io::Result<u32> {
        u32::try_from(self.position / BLOCK).map_err(|_| io::ErrorKind::FileTooLarge.into())
    }

    pub(super) fn write(&mut self, data: &[u8]) -> io::Result<()> {
        for piece in data.chunks(HOLE) {
            self.position += piece.len() as u64;
            if piece.len() == HOLE && piece.iter().all(|&b| b == 0) {
                self.output.seek(SeekFrom::Start(self.position))?;
            } else {
                self.output.write_all(piece)?;
            }
        }
        Ok(())
    }

    /// Fills the last block with zeros.
    pub(super) fn pad(&mut self) -> io::Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let over = self.position % BLOCK;
        if over != 0 {
            let missing = &ZEROS[usize::try_from(over).unwrap_or(0)..];
            self.output.write_all(missing)?;
            self.position += missing.len() as u64;
        }
        Ok(())
    }

    /// Writes block 0 and ends the file on a block boundary. Returns its length in bytes.
    pub(super) fn finish(mut self, block_0: &[u8]) -> io::Result<u64> {
        self.pad()?;
        self.output.flush()?;
        let file = self.output.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.set_len(self.position)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(block_0)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn zeros_become_holes_and_the_file_ends_on_a_block() {
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = BlockWriter::new(&mut file).unwrap();
        writer.write(&vec![0; 8 << 20]).unwrap();
        assert_eq!(writer.next_block().unwrap(), 1 + 2048);
        writer.write(b"x").unwrap();
        let length = writer.finish(&[1; 4096]).unwrap();
        assert_eq!(length, (8 << 20) + 2 * BLOCK);
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), length);
        assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    }
}
