//! The block device's config space (virtio 1.2, section 5.2.4).

/// Bytes in a sector, the unit of capacity and of request positions, whatever the disk's own block size.
pub const SECTOR_SIZE: u64 = 512;
/// Data buffers in one request, offered as VIRTIO_BLK_F_SEG_MAX: the queue size less header and status.
pub const SEG_MAX: u32 = super::device::QUEUE_SIZE as u32 - 2;
/// Optimal block size in bytes, offered as VIRTIO_BLK_F_BLK_SIZE.
pub const BLOCK_SIZE: u32 = 512;
/// Ranges in one discard request.
pub const MAX_DISCARD_RANGES: u32 = 32;
/// Sectors in one range to discard: 1 GiB.
pub const MAX_DISCARD_SECTORS: u32 = 1 << 21;
/// Ranges in one request to write zeroes.
pub const MAX_ZEROES_RANGES: u32 = 1;
/// Sectors in one range to write zeroes to: 32 MiB, which a host that cannot do better has to write one by one.
pub const MAX_ZEROES_SECTORS: u32 = 1 << 16;
/// What a guest had best align ranges to discard to, in sectors: the block size of common file systems.
const DISCARD_ALIGNMENT: u32 = 8;

const LENGTH: usize = 60;

/// The fields up to `write_zeroes_may_unmap`; those without a feature bit of ours stay zero.
pub fn config_space(sectors: u64, queues: u16) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[0..8].copy_from_slice(&sectors.to_le_bytes());
    bytes[34..36].copy_from_slice(&queues.to_le_bytes());
    for (offset, value) in [
        (12, SEG_MAX),
        (20, BLOCK_SIZE),
        (36, MAX_DISCARD_SECTORS),
        (40, MAX_DISCARD_RANGES),
        (44, DISCARD_ALIGNMENT),
        (48, MAX_ZEROES_SECTORS),
        (52, MAX_ZEROES_RANGES),
    ] {
        bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }
    // write_zeroes_may_unmap: a hole reads as zeroes.
    bytes[56] = 1;
    bytes
}
