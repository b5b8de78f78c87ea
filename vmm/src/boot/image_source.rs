//! The bytes of an unpacked kernel, read front to back: straight from a file, or out of a decompressor.
//!
//! Reading forward only is what lets a compressed kernel go into guest memory without an unpacked copy in the
//! VMM.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use vm_memory::{Bytes, GuestAddress};

use crate::memory::{self, GuestMemory};

/// Bytes copied at a time out of a decompressor.
const CHUNK: usize = 64 << 10;

/// A kernel image that can be read forward.
pub(super) trait ImageSource {
    /// Reads the next bytes of the image into `buffer`.
    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()>;
    /// Goes on to `offset` from the start of the image, which must not lie behind.
    fn skip_to(&mut self, offset: u64) -> io::Result<()>;
    /// Reads the next `len` bytes into guest memory at `address`.
    fn read_into(&mut self, memory: &GuestMemory, address: u64, len: usize) -> io::Result<()>;
}

/// An image that is a file as it is: bytes go from the page cache to guest memory in one copy.
pub(super) struct FileSource<'a> {
    file: &'a File,
    position: u64,
}

impl<'a> FileSource<'a> {
    /// The image in `file`, from its start.
    pub(super) fn new(file: &'a File) -> Self {
        Self { file, position: 0 }
    }
}

impl ImageSource for FileSource<'_> {
    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, self.position)?;
        self.position += buffer.len() as u64;
        Ok(())
    }

    fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        self.position = offset;
        Ok(())
    }

    fn read_into(&mut self, memory: &GuestMemory, address: u64, len: usize) -> io::Result<()> {
        memory::fill_from_file(memory, address, self.file, self.position, len)?;
        self.position += len as u64;
        Ok(())
    }
}

/// An image that a decompressor produces.
pub(super) struct StreamSource<R> {
    stream: R,
    position: u64,
}

impl<R: Read> StreamSource<R> {
    /// The image that `stream` gives from its start.
    pub(super) fn new(stream: R) -> Self {
        Self { stream, position: 0 }
    }
}

impl<R: Read> ImageSource for StreamSource<R> {
    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.stream.read_exact(buffer)?;
        self.position += buffer.len() as u64;
        Ok(())
    }

    fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        let distance = offset.checked_sub(self.position).ok_or(io::ErrorKind::InvalidData)?;
        if io::copy(&mut (&mut self.stream).take(distance), &mut io::sink())? < distance {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position = offset;
        Ok(())
    }

    fn read_into(&mut self, memory: &GuestMemory, address: u64, len: usize) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK.min(len)];
        let mut done = 0;
        while done < len {
            let part = chunk.get_mut(..CHUNK.min(len - done)).unwrap_or_default();
            self.read_exact(part)?;
            memory.write_slice(part, GuestAddress(address + done as u64)).map_err(io::Error::other)?;
            done += part.len();
        }
        Ok(())
    }
}
