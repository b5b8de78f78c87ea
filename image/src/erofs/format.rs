//! The on-disk structures of EROFS (Linux `fs/erofs/erofs_fs.h`), little-endian, as values that encode
//! themselves.

use super::checksum::crc32c;

/// Bytes in a block.
pub(super) const BLOCK: u64 = 4096;
/// `log2` of [`BLOCK`].
const BLOCK_BITS: u8 = 12;
/// Bytes in the unit that node numbers count.
pub(super) const SLOT: u64 = 32;
/// Bytes in an extended inode.
pub(super) const INODE_SIZE: u64 = 64;
/// Bytes in a directory entry, its name apart.
pub(super) const DIRENT_SIZE: usize = 12;
/// `EROFS_SUPER_MAGIC_V1`.
pub(super) const MAGIC: u32 = 0xe0f5_e1e2;
/// Where the superblock is, in bytes.
pub(super) const SUPER_OFFSET: usize = 1024;
/// `EROFS_FEATURE_COMPAT_SB_CHKSUM | EROFS_FEATURE_COMPAT_MTIME`.
const FEATURES: u32 = 0x1 | 0x2;

/// Where a node's data is: `i_format` bits 1 to 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataLayout {
    /// In whole blocks.
    Plain = 0,
    /// In whole blocks but for the last part, which follows the inode.
    Inline = 2,
}

/// The file type bits of a mode (`S_IFMT`).
pub(super) mod file_type {
    pub(in crate::erofs) const FIFO: u16 = 0o010_000;
    pub(in crate::erofs) const CHAR: u16 = 0o020_000;
    pub(in crate::erofs) const DIRECTORY: u16 = 0o040_000;
    pub(in crate::erofs) const BLOCK: u16 = 0o060_000;
    pub(in crate::erofs) const REGULAR: u16 = 0o100_000;
    pub(in crate::erofs) const SYMLINK: u16 = 0o120_000;
    pub(in crate::erofs) const MASK: u16 = 0o170_000;
}

/// The type byte of a directory entry (`FT_*`) for the mode of what it names.
pub(super) fn dirent_type(mode: u16) -> u8 {
    match mode & file_type::MASK {
        file_type::REGULAR => 1,
        file_type::DIRECTORY => 2,
        file_type::CHAR => 3,
        file_type::BLOCK => 4,
        file_type::FIFO => 5,
        file_type::SYMLINK => 7,
        _ => 0,
    }
}

/// The superblock.
pub(super) struct Superblock {
    pub(super) root_nid: u16,
    pub(super) inodes: u64,
    pub(super) blocks: u32,
    pub(super) meta_block: u32,
}

impl Superblock {
    /// The whole block 0, checksum included.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; 4096];
        let mut put = |offset: usize, bytes: &[u8]| {
            let at = SUPER_OFFSET + offset;
            block[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &MAGIC.to_le_bytes());
        put(8, &FEATURES.to_le_bytes());
        put(12, &[BLOCK_BITS]);
        put(14, &self.root_nid.to_le_bytes());
        put(16, &self.inodes.to_le_bytes());
        put(36, &self.blocks.to_le_bytes());
        put(40, &self.meta_block.to_le_bytes());
        let checksum = crc32c(&block[SUPER_OFFSET..]);
        block[SUPER_OFFSET + 4..SUPER_OFFSET + 8].copy_from_slice(&checksum.to_le_bytes());
        block
    }
}

/// An extended inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inode {
    pub(super) layout: DataLayout,
    /// Bytes of extended attributes that follow the inode: 0, or 12 and a multiple of 4.
    pub(super) xattr_bytes: u64,
    pub(super) mode: u16,
    pub(super) size: u64,
    /// First block of the data, or the device number.
    pub(super) block_or_device: u32,
    pub(super) number: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime_seconds: i64,
    pub(super) mtime_nanoseconds: u32,
    pub(super) links: u32,
}

impl Inode {
    pub(super) fn encode(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        // Bit 0: an extended inode.
        put(0, &(1 | (self.layout as u16) << 1).to_le_bytes());
        put(2, &xattr_count(self.xattr_bytes).to_le_bytes());
        put(4, &self.mode.to_le_bytes());
        put(8, &self.size.to_le_bytes());
        put(16, &self.block_or_device.to_le_bytes());
        put(20, &self.number.to_le_bytes());
        put(24, &self.uid.to_le_bytes());
        put(28, &self.gid.to_le_bytes());
        put(32, &self.mtime_seconds.to_le_bytes());
        put(40, &self.mtime_nanoseconds.to_le_bytes());
        put(44, &self.links.to_le_bytes());
        bytes
    }

    /// Reads an inode back; none if it is of a form that is not written here.
    pub(super) fn decode(bytes: &[u8; 64]) -> Option<Self> {
        let layout = match u16_at(bytes, 0) {
            0b0001 => DataLayout::Plain,
            0b0101 => DataLayout::Inline,
            _ => return None,
        };
        let xattr_bytes = match u64::from(u16_at(bytes, 2)) {
            0 => 0,
            count => 12 + 4 * (count - 1),
        };
        Some(Self {
            layout,
            xattr_bytes,
            mode: u16_at(bytes, 4),
            size: u64_at(bytes, 8),
            block_or_device: u32_at(bytes, 16),
            number: u32_at(bytes, 20),
            uid: u32_at(bytes, 24),
            gid: u32_at(bytes, 28),
            mtime_seconds: u64_at(bytes, 32).cast_signed(),
            mtime_nanoseconds: u32_at(bytes, 40),
            links: u32_at(bytes, 44),
        })
    }
}

/// `i_xattr_icount` for `bytes` of extended attributes.
fn xattr_count(bytes: u64) -> u16 {
    match bytes {
        0 => 0,
        // Attributes are checked against `xattr::MAX_BYTES` when they are read, which fits.
        bytes => u16::try_from((bytes - 12) / 4 + 1).unwrap_or(u16::MAX),
    }
}

/// A device number as the kernel stores it (`new_encode_dev`); none if it does not fit.
pub(super) fn encode_device((major, minor): (u32, u32)) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20).then_some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

/// The reverse of [`encode_device`].
pub(super) fn decode_device(device: u32) -> (u32, u32) {
    ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00))
}

/// The number at `at`; the caller has checked that it is there.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The number at `at`; the caller has checked that it is there.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

/// The number at `at`; the caller has checked that it is there.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inodes_round_trip() {
        let inode = Inode {
            layout: DataLayout::Inline,
            xattr_bytes: 12 + 40,
            mode: 0o104_755,
            size: 5 << 32,
            block_or_device: 77,
            number: 3,
            uid: 100_000,
            gid: 100_001,
            mtime_seconds: -5,
            mtime_nanoseconds: 999_999_999,
            links: 70_000,
        };
        assert_eq!(Inode::decode(&inode.encode()), Some(inode));
        assert_eq!(Inode::decode(&[0; 64]), None);
    }

    #[test]
    fn device_numbers_round_trip_or_are_refused() {
        for device in [(0, 0), (1, 3), (8, 255), (8, 256), (4095, 1_048_575)] {
            assert_eq!(decode_device(encode_device(device).unwrap()), device);
        }
        assert_eq!(encode_device((4096, 0)), None);
        assert_eq!(encode_device((0, 1 << 20)), None);
    }
}
