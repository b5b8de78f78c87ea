//! Which compression a kernel payload uses, and a reader that undoes it.

use std::io::{self, BufReader, Read};

use super::lz4::{self, Lz4Reader};

/// Most memory a decompressor may take for its window, in KiB. Distributions use windows up to 128 MiB.
const MAX_WINDOW_KIB: u32 = 192 << 10;
/// log2 of the largest zstd window.
const MAX_ZSTD_WINDOW: u32 = 27;
/// Bytes read from the file at a time.
const READ_AHEAD: usize = 64 << 10;

/// How a payload is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// xz, with the x86 branch filter as the kernel's build applies it.
    Xz,
    /// Zstandard.
    Zstd,
    /// LZ4, in the form that the kernel's build makes.
    Lz4,
    /// Something this VMM does not unpack, by name.
    Unsupported(&'static str),
}

/// Names the compression by the first bytes of the payload (kernel: lib/decompress.c).
pub(super) fn detect(start: &[u8]) -> Compression {
    const MAGICS: [(&[u8], Compression); 8] = [
        (b"\x7fELF", Compression::None),
        (&[0x1f, 0x8b], Compression::Gzip),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
        (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
        (&lz4::MAGIC, Compression::Lz4),
        (b"BZh", Compression::Unsupported("bzip2")),
        (&[0x5d, 0, 0], Compression::Unsupported("lzma")),
        (&[0x89, b'L', b'Z'], Compression::Unsupported("lzo")),
    ];
    let found = MAGICS.iter().find(|(magic, _)| start.starts_with(magic));
    found.map_or(Compression::Unsupported("an unknown method"), |(_, compression)| *compression)
}

/// Unpacks `packed`; `None` for a compression that is not supported.
///
/// # Errors
/// The decompressor cannot be set up.
pub(super) fn unpack<'a>(
    compression: Compression,
    packed: impl Read + 'a,
) -> io::Result<Option<Box<dyn Read + 'a>>> {
    let packed = BufReader::with_capacity(READ_AHEAD, packed);
    Ok(Some(match compression {
        Compression::None => Box::new(packed),
        Compression::Gzip => Box::new(flate2::bufread::GzDecoder::new(packed)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(packed, false, MAX_WINDOW_KIB)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?.single_frame();
            decoder.window_log_max(MAX_ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        Compression::Lz4 => Box::new(Lz4Reader::new(packed)),
        Compression::Unsupported(_) => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn unpacked(compression: Compression, packed: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        unpack(compression, packed).unwrap().unwrap().read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn gzip_and_zstd_are_found_and_undone_with_bytes_behind_them() {
        let text = b"kernel".repeat(1000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        for mut packed in [gzip.finish().unwrap(), zstd::encode_all(&text[..], 1).unwrap()] {
            packed.extend_from_slice(&6000u32.to_le_bytes());
            let compression = detect(&packed);
            assert_eq!(unpacked(compression, &packed), text, "{compression:?}");
        }
    }

    #[test]
    fn xz_with_the_x86_filter_is_undone() {
        // printf 'kernel payload\n' | xz --format=xz --check=crc32 --x86 --lzma2=dict=4KiB
        let packed: &[u8] = &XZ;
        assert_eq!(detect(packed), Compression::Xz);
        assert_eq!(unpacked(Compression::Xz, packed), b"kernel payload\n");
    }

    #[test]
    fn other_compressions_are_named() {
        assert_eq!(detect(b"BZh91AY"), Compression::Unsupported("bzip2"));
        assert_eq!(detect(b"hello"), Compression::Unsupported("an unknown method"));
        assert!(unpack(Compression::Unsupported("bzip2"), &b""[..]).unwrap().is_none());
    }

    const XZ: [u8; 68] = [
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02, 0x01, 0x04, 0x00, 0x21,
        0x01, 0x00, 0x00, 0xda, 0x33, 0xad, 0x03, 0x01, 0x00, 0x0e, 0x6b, 0x65, 0x72, 0x6e, 0x65, 0x6c, 0x20,
        0x70, 0x61, 0x79, 0x6c, 0x6f, 0x61, 0x64, 0x0a, 0x00, 0x00, 0x3b, 0x3a, 0x6f, 0x0a, 0x00, 0x01, 0x23,
        0x0f, 0xdb, 0xdf, 0x90, 0x0e, 0x90, 0x42, 0x99, 0x0d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x01, 0x59, 0x5a,
    ];
}
