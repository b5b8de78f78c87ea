//! The bzImage container: where the setup header says the compressed kernel is.
//!
//! The file's own decompressor is not run: unpacking on the host is quicker everywhere, and out of the question
//! inside a guest whose kernel mode is emulated. Documentation/x86/boot.rst, "The Real-Mode Kernel Header".

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Take};
use std::os::unix::fs::FileExt;

use linux_loader::bootparam::setup_header;
use vm_memory::ByteValued;

/// File offset of the setup header.
const HEADER_AT: u64 = 0x1f1;
/// "HdrS", little-endian.
const HEADER_MAGIC: u32 = 0x5372_6448;
/// First protocol version with `payload_offset`.
const VERSION_WITH_PAYLOAD: u16 = 0x0208;
/// Length of a disk sector, the unit of `setup_sects`.
const SECTOR: u64 = 512;

/// A bzImage whose header makes sense.
#[derive(Debug)]
pub(super) struct BzImage {
    /// The setup header, to be handed on to the kernel.
    pub(super) header: setup_header,
    payload_at: u64,
    payload_len: u64,
}

impl BzImage {
    /// The packed kernel.
    pub(super) fn payload(&self, mut file: &File) -> io::Result<Take<File>> {
        file.seek(SeekFrom::Start(self.payload_at))?;
        Ok(file.try_clone()?.take(self.payload_len))
    }

    /// The first bytes of the packed kernel, which tell its compression.
    pub(super) fn payload_start(&self, file: &File) -> io::Result<[u8; 8]> {
        let mut start = [0; 8];
        file.read_exact_at(&mut start, self.payload_at)?;
        Ok(start)
    }
}

/// Reads the setup header of `file`; `None` when it has none.
///
/// # Errors
/// With a text, when there is a header and it describes nothing that can be loaded.
pub(super) fn parse(file: &File) -> Result<Option<BzImage>, String> {
    let mut header = setup_header::default();
    if file.read_exact_at(header.as_mut_slice(), HEADER_AT).is_err() {
        return Ok(None);
    }
    let (boot_flag, magic, version) = (header.boot_flag, header.header, header.version);
    if boot_flag != 0xaa55 || magic != HEADER_MAGIC {
        return Ok(None);
    }
    if version < VERSION_WITH_PAYLOAD {
        return Err(format!("boot protocol {}.{:02} is older than 2.08", version >> 8, version & 0xff));
    }
    let sectors = if header.setup_sects == 0 { 4 } else { u64::from(header.setup_sects) };
    let payload_at = (sectors + 1) * SECTOR + u64::from(header.payload_offset);
    let payload_len = u64::from(header.payload_length);
    let file_len = file.metadata().map_err(|e| e.to_string())?.len();
    if payload_len < 8 || payload_at + payload_len > file_len {
        return Err(format!(
            "its header puts {payload_len:#x} bytes of compressed kernel at {payload_at:#x}, the file has {file_len:#x}"
        ));
    }
    Ok(Some(BzImage { header, payload_at, payload_len }))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    /// A file that holds `payload` the way a bzImage does.
    pub(in crate::boot) fn bzimage_with(payload: &[u8]) -> Vec<u8> {
        let header = setup_header {
            setup_sects: 1,
            boot_flag: 0xaa55,
            header: HEADER_MAGIC,
            version: 0x020f,
            payload_offset: 16,
            payload_length: u32::try_from(payload.len()).unwrap(),
            cmdline_size: 2047,
            ..setup_header::default()
        };
        let mut file = vec![0; 0x410];
        let at = usize::try_from(HEADER_AT).unwrap();
        file[at..at + header.as_slice().len()].copy_from_slice(header.as_slice());
        file.extend_from_slice(payload);
        file
    }

    fn parse_bytes(bytes: &[u8]) -> Result<Option<BzImage>, String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        parse(&file)
    }

    #[test]
    fn the_payload_is_found_where_the_header_says() {
        let image = parse_bytes(&bzimage_with(b"0123456789")).unwrap().unwrap();
        assert_eq!((image.payload_at, image.payload_len), (0x410, 10));
    }

    #[test]
    fn a_payload_past_the_end_of_the_file_is_refused() {
        let mut bytes = bzimage_with(b"0123456789");
        bytes.pop();
        assert!(parse_bytes(&bytes).unwrap_err().contains("0x410"));
    }

    #[test]
    fn anything_else_is_not_a_bzimage() {
        assert!(parse_bytes(b"#!/bin/sh").unwrap().is_none());
        assert!(parse_bytes(&[0; 4096]).unwrap().is_none());
    }
}
