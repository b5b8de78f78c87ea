//! Loads a 64-bit ELF kernel into guest memory: header, program headers, the loadable segments, and the notes
//! that say how it wants to be started.
//!
//! The file is untrusted: every number in it is checked against the guest's memory and against limits of our
//! own before it is used. System V ABI, chapters 4 and 5; notes from the kernel's include/xen/interface/elfnote.h.

use std::io;

use super::image_source::ImageSource;
use crate::memory::{GuestMemory, layout};

/// Size of the ELF header.
const HEADER_LEN: usize = 64;
/// Size of one program header.
const SEGMENT_LEN: usize = 56;
/// More program headers than any kernel has.
const MAX_SEGMENTS: u16 = 64;
/// Furthest byte of an (unpacked) image that is looked at. Debug information lies behind and is never read.
const MAX_IMAGE: u64 = 1 << 30;
/// Most bytes of notes that are looked at.
const MAX_NOTES: u64 = 64 << 10;

const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// `XEN_ELFNOTE_PHYS32_ENTRY`: the 32-bit PVH entry point.
const NOTE_PVH_ENTRY: u32 = 18;

/// Why an ELF file cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum ElfError {
    /// Reading or unpacking it failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It says something impossible or something that is not supported.
    #[error("{0}")]
    Bad(String),
    /// A segment lies outside the guest's low RAM.
    #[error("a segment ends at {end:#x}")]
    DoesNotFit {
        /// Guest physical address at which the segment ends.
        end: u64,
    },
}

fn bad<T>(what: impl Into<String>) -> Result<T, ElfError> {
    Err(ElfError::Bad(what.into()))
}

/// A kernel in guest memory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LoadedElf {
    /// Entry point of the ELF header.
    pub(super) entry: u64,
    /// First guest physical address after the last segment.
    pub(super) end: u64,
    /// Whether `entry` lies in a loaded segment.
    pub(super) entry_is_loaded: bool,
    /// Where in the file the notes are: offset and length, bounded.
    pub(super) notes: Vec<(u64, usize)>,
}

/// What the notes of a kernel say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Notes {
    /// Entry point for a PVH start.
    pub(super) pvh_entry: Option<u32>,
    /// A note of owner `Linux` is there: every vmlinux since 4.19 has one.
    pub(super) is_linux: bool,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    file_len: u64,
    memory_len: u64,
}

/// Reads the little-endian number at `at`; zero past the end, which callers exclude by fixed-size input.
fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    if let (Some(to), Some(from)) = (value.get_mut(..N), bytes.get(at..at + N)) {
        to.copy_from_slice(from);
    }
    u64::from_le_bytes(value)
}

/// The low half of a number that was read from a field of four bytes.
fn word(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    if let Some(from) = bytes.get(at..at + 4) {
        value.copy_from_slice(from);
    }
    u32::from_le_bytes(value)
}

/// Loads the image that `source` is at the start of; `ram_end` is the end of the guest's low RAM.
///
/// # Errors
/// The image is unreadable, damaged, for another machine, or too large for the guest.
pub(super) fn load(
    source: &mut dyn ImageSource,
    memory: &GuestMemory,
    ram_end: u64,
) -> Result<LoadedElf, ElfError> {
    let mut header = [0; HEADER_LEN];
    source.read_exact(&mut header)?;
    check_header(&header)?;
    let entry = number::<8>(&header, 24);
    let mut segments = read_segments(source, &header)?;
    segments.sort_by_key(|s| s.offset);

    let mut loaded = LoadedElf { entry, end: 0, entry_is_loaded: false, notes: Vec::new() };
    for segment in &segments {
        match segment.kind {
            PT_LOAD if segment.memory_len > 0 => load_segment(source, memory, ram_end, segment, &mut loaded)?,
            PT_NOTE if segment.file_len <= MAX_NOTES => {
                let len = usize::try_from(segment.file_len).unwrap_or_default();
                loaded.notes.push((segment.offset, len));
            }
            _ => {}
        }
    }
    if loaded.end == 0 {
        return bad("it has no loadable segment");
    }
    Ok(loaded)
}

fn check_header(header: &[u8; HEADER_LEN]) -> Result<(), ElfError> {
    if !header.starts_with(b"\x7fELF") {
        return bad("no ELF header where the kernel should start");
    }
    let (class, order) = (header[4], header[5]);
    if class != 2 || order != 1 || number::<2>(header, 18) != u64::from(EM_X86_64) {
        return bad("an ELF file, but not a 64-bit little-endian one for x86-64");
    }
    if number::<2>(header, 54) != SEGMENT_LEN as u64 {
        return bad("program headers of unknown size");
    }
    Ok(())
}

fn read_segments(source: &mut dyn ImageSource, header: &[u8; HEADER_LEN]) -> Result<Vec<Segment>, ElfError> {
    let table = number::<8>(header, 32);
    let count = u16::from_le_bytes([header[56], header[57]]);
    if count == 0 || count > MAX_SEGMENTS {
        return bad(format!("{count} program headers; 1 to {MAX_SEGMENTS} are accepted"));
    }
    if table < HEADER_LEN as u64 || table > MAX_IMAGE {
        return bad(format!("program headers at {table:#x}"));
    }
    source.skip_to(table)?;
    let mut segments = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let mut bytes = [0; SEGMENT_LEN];
        source.read_exact(&mut bytes)?;
        segments.push(Segment {
            kind: word(&bytes, 0),
            offset: number::<8>(&bytes, 8),
            address: number::<8>(&bytes, 24),
            file_len: number::<8>(&bytes, 32),
            memory_len: number::<8>(&bytes, 40),
        });
    }
    Ok(segments)
}

fn load_segment(
    source: &mut dyn ImageSource,
    memory: &GuestMemory,
    ram_end: u64,
    segment: &Segment,
    loaded: &mut LoadedElf,
) -> Result<(), ElfError> {
    let &Segment { offset, address, file_len, memory_len, .. } = segment;
    if file_len > memory_len || offset.checked_add(file_len).is_none_or(|end| end > MAX_IMAGE) {
        return bad(format!("a segment of {file_len:#x} bytes at file offset {offset:#x}"));
    }
    if address < layout::HIGH_RAM {
        return bad(format!("a segment at {address:#x}, below 1 MiB, where the boot structures are"));
    }
    let end = address.checked_add(memory_len).ok_or(ElfError::DoesNotFit { end: u64::MAX })?;
    if end > ram_end {
        return Err(ElfError::DoesNotFit { end });
    }
    if file_len > 0 {
        source.skip_to(offset)?;
        source.read_into(memory, address, usize::try_from(file_len).unwrap_or(usize::MAX))?;
    }
    // The rest up to memory_len is zero already: fresh guest memory reads as zero.
    loaded.end = loaded.end.max(end);
    loaded.entry_is_loaded |= (address..end).contains(&loaded.entry);
    Ok(())
}

/// Reads notes, each a name and a value padded to four bytes; stops at the first one that makes no sense.
pub(super) fn parse_notes(mut bytes: &[u8], notes: &mut Notes) {
    while bytes.len() >= 12 {
        let (name_len, value_len, kind) = (word(bytes, 0) as usize, word(bytes, 4) as usize, word(bytes, 8));
        let value_at = 12 + name_len.saturating_add(3) / 4 * 4;
        let next = value_at.saturating_add(value_len.saturating_add(3) / 4 * 4);
        let name = bytes.get(12..12usize.saturating_add(name_len));
        let value = bytes.get(value_at..value_at.saturating_add(value_len));
        let (Some(name), Some(value)) = (name, value) else { return };
        if name == b"Linux\0" {
            notes.is_linux = true;
        }
        if name == b"Xen\0" && kind == NOTE_PVH_ENTRY && matches!(value.len(), 4 | 8) {
            notes.pvh_entry = u32::try_from(number::<8>(&[value, &[0; 4]].concat(), 0)).ok();
        }
        bytes = bytes.get(next..).unwrap_or_default();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use vm_memory::{Bytes, GuestAddress};

    use super::super::image_source::StreamSource;
    use super::*;
    use crate::memory::map_guest_ram;

    const RAM: u64 = 16 * layout::MIB;

    /// An ELF file with one segment holding `code` at `address`, entered at its start.
    pub(in crate::boot) fn elf_with(address: u64, code: &[u8]) -> Vec<u8> {
        let mut file = vec![0; HEADER_LEN + SEGMENT_LEN];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01\x01");
        put(18, &EM_X86_64.to_le_bytes());
        put(24, &address.to_le_bytes());
        put(32, &(HEADER_LEN as u64).to_le_bytes());
        put(54, &56u16.to_le_bytes());
        put(56, &1u16.to_le_bytes());
        let segment = HEADER_LEN;
        put(segment, &PT_LOAD.to_le_bytes());
        put(segment + 8, &((HEADER_LEN + SEGMENT_LEN) as u64).to_le_bytes());
        put(segment + 24, &address.to_le_bytes());
        put(segment + 32, &(code.len() as u64).to_le_bytes());
        put(segment + 40, &(code.len() as u64 + 0x100).to_le_bytes());
        file.extend_from_slice(code);
        file
    }

    fn load_bytes(file: &[u8]) -> Result<(GuestMemory, LoadedElf), ElfError> {
        let memory = map_guest_ram(RAM).unwrap();
        let loaded = load(&mut StreamSource::new(file), &memory, RAM)?;
        Ok((memory, loaded))
    }

    #[test]
    fn a_segment_lands_at_its_physical_address() {
        let (memory, loaded) = load_bytes(&elf_with(0x20_0000, b"code")).unwrap();
        assert_eq!((loaded.entry, loaded.end, loaded.entry_is_loaded), (0x20_0000, 0x20_0104, true));
        let mut code = [0; 4];
        memory.read_slice(&mut code, GuestAddress(0x20_0000)).unwrap();
        assert_eq!(&code, b"code");
    }

    #[test]
    fn a_segment_outside_the_guests_memory_is_refused() {
        assert!(matches!(load_bytes(&elf_with(RAM, b"x")), Err(ElfError::DoesNotFit { .. })));
        assert!(matches!(load_bytes(&elf_with(u64::MAX - 8, b"x")), Err(ElfError::DoesNotFit { .. })));
        assert!(matches!(load_bytes(&elf_with(0x1000, b"x")), Err(ElfError::Bad(_))));
    }

    #[test]
    fn a_truncated_file_is_an_error() {
        let file = elf_with(0x20_0000, b"code");
        for len in 0..file.len() {
            assert!(load_bytes(&file[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn notes_give_the_pvh_entry_and_tell_linux() {
        let mut bytes = Vec::new();
        for (name, kind, value) in
            [(&b"Linux\0"[..], 257u32, &b"salt"[..]), (b"Xen\0", 18, &[0x10, 0, 0x10, 0])]
        {
            bytes.extend_from_slice(&u32::try_from(name.len()).unwrap().to_le_bytes());
            bytes.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
            bytes.extend_from_slice(&kind.to_le_bytes());
            bytes.extend_from_slice(name);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes.extend_from_slice(value);
        }
        let mut notes = Notes::default();
        parse_notes(&bytes, &mut notes);
        assert_eq!(notes, Notes { pvh_entry: Some(0x10_0010), is_linux: true });
    }

    proptest! {
        #[test]
        fn damaged_headers_never_panic(at in 0usize..120, byte: u8, more in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut file = elf_with(0x20_0000, &more);
            file[at] = byte;
            let _ = load_bytes(&file);
        }

        #[test]
        fn arbitrary_notes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            parse_notes(&bytes, &mut Notes::default());
        }
    }
}
