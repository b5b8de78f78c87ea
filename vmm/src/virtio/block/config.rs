//! The block device's config space (virtio 1.2, section 5.2.4).

/// Bytes in a sector, the unit of capacity and of request positions, whatever the disk's own block size.
pub const SECTOR_SIZE: u64 = 512;
/// Data buffers in one request, offered as VIRTIO_BLK_F_SEG_MAX: the queue size less header and status.
pub const SEG_MAX: u32 = super::device::QUEUE_SIZE as u32 - 2;
/// Optimal block size in bytes, offered as VIRTIO_BLK_F_BLK_SIZE.
pub const BLOCK_SIZE: u32 = 512;

const LENGTH: usize = 24;

/// The fields up to `blk_size`; those without a feature bit of ours stay zero.
pub fn config_space(sectors: u64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[0..8].copy_from_slice(&sectors.to_le_bytes());
    bytes[12..16].copy_from_slice(&SEG_MAX.to_le_bytes());
    bytes[20..24].copy_from_slice(&BLOCK_SIZE.to_le_bytes());
    bytes
}
