//! Reads a tar archive as a stream of entries, with every length bounded.
//!
//! The `tar` crate parses the 512-byte headers. The framing is ours because a layer is hostile input: that
//! crate's iterator reads extended headers of any length into memory, and splits PAX records at newlines,
//! which breaks binary extended attributes such as `security.capability`.
//!
//! Understood: v7, ustar, PAX (`path`, `linkpath`, `size`, `uid`, `gid`, `mtime`, `SCHILY.xattr.*`) and GNU
//! long names and binary numbers.

mod header;
mod pax;

use std::collections::BTreeMap;
use std::io::{self, Read};

use self::pax::Extended;

/// Bytes in a tar block.
const BLOCK: usize = 512;
/// The longest extended header that is read, in bytes. Linux allows 64 KiB of extended attributes a file.
const MAX_EXTENDED: u64 = 1 << 20;

/// A point in time, as seconds and nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Timestamp {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Directory,
    Symlink,
    HardLink,
    CharDevice,
    BlockDevice,
    Fifo,
}

/// One entry, its data apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The path as it is in the archive: not normalised, not checked.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    /// Bytes of data that follow.
    pub(crate) size: u64,
    /// Permission, set-id and sticky bits only.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    /// Target of a symbolic or hard link.
    pub(crate) link: Vec<u8>,
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream below failed, for example because its compression is broken.
    #[error("cannot read the archive: {0}")]
    Read(#[from] io::Error),
    /// The archive stops inside an entry.
    #[error("the archive ends inside an entry; it is incomplete")]
    Truncated,
    /// A header's checksum does not fit.
    #[error("not a tar archive, or a damaged one: bad header checksum at byte {offset}")]
    Checksum {
        /// Where the header is.
        offset: u64,
    },
    /// A header field is not what it must be.
    #[error("bad {field} in the tar header of \"{path}\"")]
    Field {
        /// Which field.
        field: &'static str,
        /// The entry.
        path: String,
    },
    /// An extended header breaks the format.
    #[error("bad extended tar header at byte {offset}: {reason}")]
    Extended {
        /// Where it is.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A kind of entry that is not supported.
    #[error("tar entry \"{path}\" is {what}, which is not supported")]
    Unsupported {
        /// The entry.
        path: String,
        /// What it is.
        what: String,
    },
}

/// A tar archive being read: alternate [`TarStream::next_entry`] and [`TarStream::read_data`].
pub(crate) struct TarStream<R> {
    input: R,
    offset: u64,
    /// Data of the current entry that was not read yet.
    remaining: u64,
    /// Bytes that fill the current entry's last block.
    padding: u64,
}

impl<R: Read> TarStream<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, offset: 0, remaining: 0, padding: 0 }
    }

    /// The next entry, or none at the end of the archive. Skips data that was not read.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extended = Extended::default();
        loop {
            self.skip_data()?;
            let at = self.offset;
            let Some(block) = self.read_header_block()? else { return Ok(None) };
            let header = header::checked(&block, at)?;
            let kind = header.entry_type().as_byte();
            let size = header.entry_size().map_err(|_| header::bad_field("size", header))?;
            match kind {
                b'x' => extended.add_pax(&self.read_extended(size, at)?, at)?,
                b'L' => extended.path = Some(trim_nul(self.read_extended(size, at)?)),
                b'K' => extended.link = Some(trim_nul(self.read_extended(size, at)?)),
                // A global PAX header and a volume label say nothing about a file.
                b'g' | b'V' => self.expect_data(size),
                _ => {
                    let entry = header::entry(header, extended)?;
                    self.expect_data(entry.size);
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Reads data of the current entry; 0 at its end.
    pub(crate) fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let wanted = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(TarError::Truncated);
        }
        self.remaining -= count as u64;
        self.offset += count as u64;
        Ok(count)
    }

    fn expect_data(&mut self, size: u64) {
        self.remaining = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip_data(&mut self) -> Result<(), TarError> {
        let rest = self.remaining.saturating_add(self.padding);
        let skipped = io::copy(&mut (&mut self.input).take(rest), &mut io::sink())?;
        // Some writers leave out the padding of the last entry.
        if skipped < self.remaining {
            return Err(TarError::Truncated);
        }
        self.offset = self.offset.saturating_add(skipped);
        (self.remaining, self.padding) = (0, 0);
        Ok(())
    }

    /// A header block; none at the end of the stream or at a block of zeros, which marks the archive's end.
    fn read_header_block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(TarError::Truncated),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.offset += BLOCK as u64;
        Ok(if block == [0; BLOCK] { None } else { Some(block) })
    }

    fn read_extended(&mut self, size: u64, offset: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENDED {
            return Err(TarError::Extended { offset, reason: "longer than 1 MiB" });
        }
        self.expect_data(size);
        let mut data = Vec::new();
        let count = (&mut self.input).take(size).read_to_end(&mut data)?;
        if count as u64 != size {
            return Err(TarError::Truncated);
        }
        self.offset += size;
        self.remaining = 0;
        Ok(data)
    }
}

/// GNU long names end with a NUL.
fn trim_nul(mut name: Vec<u8>) -> Vec<u8> {
    if let Some(end) = name.iter().position(|&b| b == 0) {
        name.truncate(end);
    }
    name
}

#[cfg(test)]
mod tests;
