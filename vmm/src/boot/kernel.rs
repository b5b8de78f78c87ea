//! Finds out what a kernel file is, loads it and chooses the boot protocol.
//!
//! A Linux kernel starts by the 64-bit protocol, whether it comes as vmlinux or inside a bzImage. An ELF file
//! that is not Linux but has a PVH note starts by PVH.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use linux_loader::bootparam::setup_header;

use super::decompress::{self, Compression};
use super::elf::{self, ElfError, LoadedElf, Notes};
use super::image_source::{FileSource, StreamSource};
use super::{BootError, Entry, bzimage};
use crate::memory::{GuestMemory, layout};

/// The 64-bit start maps this much memory; code must lie below.
const MAPPED_AT_START: u64 = 1 << 30;
/// What a vmlinux accepts, which has no header to say so (`COMMAND_LINE_SIZE`).
const LINUX_CMDLINE_MAX: usize = 2047;

/// A kernel in guest memory.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// How it starts.
    pub(crate) entry: Entry,
    /// First guest physical address after it.
    pub(crate) end: u64,
    /// The setup header, when it came in a bzImage.
    pub(crate) header: Option<setup_header>,
}

impl Kernel {
    /// Most bytes of command line it accepts, without the terminating zero.
    pub(crate) fn cmdline_max(&self) -> usize {
        match self.header {
            Some(header) if header.cmdline_size > 0 => header.cmdline_size as usize,
            _ => LINUX_CMDLINE_MAX,
        }
        .min(layout::CMDLINE_MAX - 1)
    }
}

/// Loads the kernel at `path` into a guest with `memory_bytes` of RAM.
///
/// # Errors
/// The file cannot be read, is not a kernel, is damaged, or does not fit.
pub(crate) fn load_kernel(memory: &GuestMemory, memory_bytes: u64, path: &Path) -> Result<Kernel, BootError> {
    let read_error = |source| BootError::Read { what: "kernel", path: path.into(), source };
    let file = File::open(path).map_err(read_error)?;
    if file.metadata().map_err(read_error)?.is_dir() {
        return Err(BootError::NotAKernel { path: path.into(), found: "a directory".into() });
    }
    let mut start = [0; 8];
    let read = file.read_at(&mut start, 0).map_err(read_error)?;
    let ram_end = memory_bytes.min(layout::MMIO_GAP);

    if start.starts_with(b"\x7fELF") {
        let loaded = elf::load(&mut FileSource::new(&file), memory, ram_end)
            .map_err(|error| elf_error(path, ram_end, error))?;
        let notes = read_notes(&file, &loaded);
        return Ok(Kernel { entry: choose_entry(path, &loaded, &notes)?, end: loaded.end, header: None });
    }
    match bzimage::parse(&file) {
        Ok(Some(image)) => load_bzimage(&file, &image, memory, ram_end, path),
        Ok(None) => Err(BootError::NotAKernel {
            path: path.into(),
            found: describe(start.get(..read).unwrap_or_default()),
        }),
        Err(what) => Err(BootError::BadKernel { path: path.into(), what }),
    }
}

fn load_bzimage(
    file: &File,
    image: &bzimage::BzImage,
    memory: &GuestMemory,
    ram_end: u64,
    path: &Path,
) -> Result<Kernel, BootError> {
    let read_error = |source| BootError::Read { what: "kernel", path: path.into(), source };
    let compression = decompress::detect(&image.payload_start(file).map_err(read_error)?);
    let payload = image.payload(file).map_err(read_error)?;
    let Some(unpacked) = decompress::unpack(compression, payload).map_err(read_error)? else {
        let name = match compression {
            Compression::Unsupported(name) => name.to_owned(),
            other => format!("{other:?}"),
        };
        return Err(BootError::Compression { path: path.into(), name });
    };
    let loaded = elf::load(&mut StreamSource::new(unpacked), memory, ram_end)
        .map_err(|error| elf_error(path, ram_end, error))?;
    let entry = choose_entry(path, &loaded, &Notes::default())?;
    Ok(Kernel { entry, end: loaded.end, header: Some(image.header) })
}

fn elf_error(path: &Path, end: u64, error: ElfError) -> BootError {
    match error {
        ElfError::DoesNotFit { end: needed } => {
            BootError::DoesNotFit { what: "kernel", path: path.into(), needed, end }
        }
        ElfError::Io(source) => BootError::BadKernel { path: path.into(), what: source.to_string() },
        ElfError::Bad(what) => BootError::BadKernel { path: path.into(), what },
    }
}

fn read_notes(file: &File, loaded: &LoadedElf) -> Notes {
    let mut notes = Notes::default();
    for &(offset, len) in &loaded.notes {
        let mut bytes = vec![0; len];
        if file.read_exact_at(&mut bytes, offset).is_ok() {
            elf::parse_notes(&bytes, &mut notes);
        }
    }
    notes
}

fn choose_entry(path: &Path, loaded: &LoadedElf, notes: &Notes) -> Result<Entry, BootError> {
    match notes.pvh_entry {
        Some(eip) if !notes.is_linux => Ok(Entry::Pvh { eip }),
        _ if loaded.entry_is_loaded && loaded.end <= MAPPED_AT_START => Ok(Entry::Long { rip: loaded.entry }),
        _ => Err(BootError::BadKernel {
            path: path.into(),
            what: format!(
                "its entry point {:#x} is not a physical address inside its segments below 1 GiB",
                loaded.entry
            ),
        }),
    }
}

/// What a file that is no kernel looks like, from its first bytes.
fn describe(start: &[u8]) -> String {
    match start {
        [] => "an empty file".into(),
        [b'#', b'!', ..] => "a script".into(),
        [b'0', b'7', b'0', b'7', b'0', ..] => "a cpio archive (an initrd?)".into(),
        [b'M', b'Z', ..] => "an EFI program without a Linux setup header".into(),
        _ => match decompress::detect(start) {
            Compression::Unsupported("an unknown method") | Compression::None => {
                format!("a file that starts with {start:02x?}")
            }
            Compression::Unsupported(name) => format!("{name} data"),
            compression => format!("{compression:?} data (an initrd?)"),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tempfile::NamedTempFile;
    use vm_memory::{Bytes, GuestAddress};

    use super::super::bzimage::tests::bzimage_with;
    use super::super::elf::tests::elf_with;
    use super::*;
    use crate::memory::map_guest_ram;

    const RAM: u64 = 16 * layout::MIB;

    fn load(bytes: &[u8]) -> Result<(GuestMemory, Kernel), BootError> {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let memory = map_guest_ram(RAM).unwrap();
        let kernel = load_kernel(&memory, RAM, file.path())?;
        Ok((memory, kernel))
    }

    #[test]
    fn a_vmlinux_starts_at_its_entry_in_long_mode() {
        let (_, kernel) = load(&elf_with(0x10_0000, b"\xf4")).unwrap();
        assert_eq!(kernel.entry, Entry::Long { rip: 0x10_0000 });
        assert_eq!(kernel.cmdline_max(), 2047);
    }

    #[test]
    fn a_bzimage_is_unpacked_on_the_way_into_memory() {
        let code = b"kernel code".repeat(50_000);
        let packed = zstd::encode_all(&elf_with(0x10_0000, &code)[..], 1).unwrap();
        let (memory, kernel) = load(&bzimage_with(&packed)).unwrap();
        assert_eq!(kernel.entry, Entry::Long { rip: 0x10_0000 });
        assert_eq!(kernel.end, 0x10_0100 + code.len() as u64);
        let mut copy = vec![0; code.len()];
        memory.read_slice(&mut copy, GuestAddress(0x10_0000)).unwrap();
        assert!(copy == code);
    }

    #[test]
    fn what_is_not_a_kernel_is_named_with_what_was_expected() {
        for (bytes, found) in [
            (&b""[..], "an empty file"),
            (b"#!/bin/sh\n", "a script"),
            (b"070701 an archive", "a cpio archive"),
            (b"\x1f\x8b\x08\x00whatever", "Gzip data"),
            (b"hello world", "a file that starts with [68"),
        ] {
            let error = load(bytes).unwrap_err().to_string();
            assert!(error.contains("expected an x86-64 ELF vmlinux or a bzImage"), "{error}");
            assert!(error.contains(found), "{error}");
        }
    }

    #[test]
    fn an_unsupported_compression_is_named() {
        let error = load(&bzimage_with(b"BZh91AY&")).unwrap_err().to_string();
        assert!(error.contains("compressed with bzip2"), "{error}");
    }

    #[test]
    fn a_kernel_larger_than_memory_says_so() {
        let error = load(&elf_with(RAM - 0x80, b"\xf4")).unwrap_err().to_string();
        assert!(error.contains("more memory"), "{error}");
    }

    #[test]
    fn a_directory_and_a_missing_file_are_told_apart() {
        let memory = map_guest_ram(RAM).unwrap();
        let directory = load_kernel(&memory, RAM, Path::new("/")).unwrap_err().to_string();
        assert!(directory.contains("found a directory"), "{directory}");
        let missing = load_kernel(&memory, RAM, Path::new("/no/kernel")).unwrap_err().to_string();
        assert!(missing.contains("cannot read kernel /no/kernel"), "{missing}");
    }
}
