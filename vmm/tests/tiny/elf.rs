//! An ELF file around a few bytes of machine code, and such bytes.

/// `mov al, 0xfe; out 0x64, al; jmp $`: reset through the keyboard controller.
pub(crate) const RESET: [u8; 6] = [0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xfe];
/// `cli; hlt; jmp back`.
pub(crate) const HALT_FOR_EVER: [u8; 4] = [0xfa, 0xf4, 0xeb, 0xfd];
/// `jmp $`.
pub(crate) const LOOP_FOR_EVER: [u8; 2] = [0xeb, 0xfe];

/// Where the code is loaded.
const CODE_AT: u32 = 0x10_0000;

/// How a guest is entered.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Entry {
    /// In 64-bit mode.
    Long,
    /// By its PVH note, in 32-bit mode.
    Pvh,
}

/// Code that writes `text` to the serial port, the same in 32-bit and 64-bit mode.
pub(crate) fn say(text: &[u8]) -> Vec<u8> {
    let bytes = text.iter().flat_map(|byte| [0xb0, *byte, 0xee]);
    [0x66, 0xba, 0xf8, 0x03].into_iter().chain(bytes).collect()
}

/// A kernel that is `code` and nothing else.
pub(crate) fn elf(entry: Entry, code: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [4u32, 4, 18] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"Xen\0");
    note.extend(CODE_AT.to_le_bytes());

    let segment = |kind: u32, offset: usize, len: usize| {
        let mut bytes = Vec::new();
        bytes.extend(kind.to_le_bytes());
        bytes.extend(7u32.to_le_bytes());
        for value in [offset as u64, CODE_AT.into(), CODE_AT.into(), len as u64, len as u64, 4] {
            bytes.extend(value.to_le_bytes());
        }
        bytes
    };
    let segments = if entry == Entry::Pvh { 2u16 } else { 1 };
    let note_at = 64 + 56 * usize::from(segments);
    let code_at = note_at + note.len();

    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(2u16.to_le_bytes());
    file.extend(62u16.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    for value in [u64::from(CODE_AT), 64, 0] {
        file.extend(value.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    for value in [64, 56, segments, 0, 0, 0] {
        file.extend(value.to_le_bytes());
    }
    file.extend(segment(1, code_at, code.len()));
    if entry == Entry::Pvh {
        file.extend(segment(4, note_at, note.len()));
    }
    file.extend(note);
    file.extend(code);
    file
}
