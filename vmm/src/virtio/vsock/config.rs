//! The vsock device's config space (virtio 1.2, section 5.10.4): the guest's CID.

/// The bytes of the config space.
pub fn config_space(guest_cid: u32) -> [u8; 8] {
    u64::from(guest_cid).to_le_bytes()
}
