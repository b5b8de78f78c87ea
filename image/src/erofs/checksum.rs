//! CRC-32C (Castagnoli) without the final inversion, as EROFS uses it for its superblock.

/// The checksum of `data`, starting from all ones.
pub(super) fn crc32c(data: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in data {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc = (crc >> 1) ^ (carry * 0x82f6_3b78);
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_check_value_of_the_algorithm() {
        // RFC 3720 and every CRC catalogue: CRC-32C("123456789") = e3069283, with the final inversion.
        assert_eq!(!crc32c(b"123456789"), 0xe306_9283);
    }
}
