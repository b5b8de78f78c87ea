//! The console's config space (virtio 1.2, section 5.3.4).

use crate::console::Size;

/// The config space tells how large the terminal is (VIRTIO_CONSOLE_F_SIZE).
pub const F_SIZE: u32 = 0;

/// `cols` and `rows`; the fields of features that are not offered are left out.
pub fn config_space(size: Size) -> [u8; 4] {
    let mut bytes = [0; 4];
    bytes[..2].copy_from_slice(&size.columns.to_le_bytes());
    bytes[2..].copy_from_slice(&size.rows.to_le_bytes());
    bytes
}
