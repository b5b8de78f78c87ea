//! Reading a config space that is held as bytes.

/// Fills `data` with the bytes of `config` from `offset` on; what lies beyond the end reads as zero.
pub(crate) fn read(config: &[u8], offset: u64, data: &mut [u8]) {
    data.fill(0);
    let Some(tail) = usize::try_from(offset).ok().and_then(|start| config.get(start..)) else {
        return;
    };
    let length = tail.len().min(data.len());
    data[..length].copy_from_slice(&tail[..length]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_within_bounds_and_zero_beyond() {
        let config = [1, 2, 3, 4];
        let cases: [(u64, usize, &[u8]); 7] = [
            (0, 4, &[1, 2, 3, 4]),
            (1, 1, &[2]),
            (2, 4, &[3, 4, 0, 0]),
            (4, 2, &[0, 0]),
            (100, 1, &[0]),
            (u64::MAX, 8, &[0; 8]),
            (0, 0, &[]),
        ];
        for (offset, width, wanted) in cases {
            let mut data = vec![0xff; width];
            read(&config, offset, &mut data);
            assert_eq!(data, wanted, "{width} bytes at {offset}");
        }
    }
}
