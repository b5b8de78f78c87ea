//! Directory data: blocks that each hold a sorted run of entries, first all fixed parts, then all names.

use super::format::{BLOCK, DIRENT_SIZE};

/// One entry as it is written.
pub(super) struct Dirent<'a> {
    pub(super) name: &'a [u8],
    pub(super) nid: u64,
    pub(super) kind: u8,
}

/// Cuts sorted names of the given lengths into blocks.
#[derive(Default)]
struct Packer {
    in_block: u64,
    full_blocks: u64,
}

impl Packer {
    /// Counts a name in; true if it starts a new block.
    fn add(&mut self, name_length: usize) -> bool {
        let need = (DIRENT_SIZE + name_length) as u64;
        let starts_block = self.in_block + need > BLOCK;
        if starts_block {
            self.full_blocks += 1;
            self.in_block = 0;
        }
        self.in_block += need;
        starts_block
    }
}

/// The size in bytes of a directory with names of these lengths, `.` and `..` included, in order.
pub(super) fn size(name_lengths: impl Iterator<Item = usize>) -> u64 {
    let mut packer = Packer::default();
    for length in name_lengths {
        packer.add(length);
    }
    packer.full_blocks * BLOCK + packer.in_block
}

/// The directory's data; all blocks but the last are filled up with zeros.
pub(super) fn encode(entries: &[Dirent<'_>]) -> Vec<u8> {
    let mut packer = Packer::default();
    let mut data = Vec::new();
    let mut start = 0;
    for (index, entry) in entries.iter().enumerate() {
        if packer.add(entry.name.len()) {
            encode_block(&entries[start..index], &mut data);
            data.resize(data.len().next_multiple_of(4096), 0);
            start = index;
        }
    }
    encode_block(&entries[start..], &mut data);
    data
}

fn encode_block(entries: &[Dirent<'_>], data: &mut Vec<u8>) {
    let mut name_offset = entries.len() * DIRENT_SIZE;
    for entry in entries {
        data.extend_from_slice(&entry.nid.to_le_bytes());
        let offset = u16::try_from(name_offset).expect("a block holds 4096 bytes");
        data.extend_from_slice(&offset.to_le_bytes());
        data.extend_from_slice(&[entry.kind, 0]);
        name_offset += entry.name.len();
    }
    for entry in entries {
        data.extend_from_slice(entry.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_foretells_what_is_encoded() {
        for count in [1, 2, 100, 300, 1000] {
            let names: Vec<String> =
                (0..count).map(|n| format!("{n:0>width$}", width = 4 + n % 60)).collect();
            let entries: Vec<_> =
                names.iter().map(|name| Dirent { name: name.as_bytes(), nid: 1, kind: 1 }).collect();
            assert_eq!(size(names.iter().map(String::len)), encode(&entries).len() as u64, "{count}");
        }
    }

    #[test]
    fn an_entry_never_crosses_a_block() {
        let name = [b'n'; 255];
        let entries: Vec<_> = (0..40).map(|nid| Dirent { name: &name, nid, kind: 1 }).collect();
        let data = encode(&entries);
        // 15 entries of 267 bytes fit a block.
        assert_eq!(data.len(), 2 * 4096 + 10 * 267);
        assert_eq!(&data[4096..4104], &15u64.to_le_bytes());
    }
}
