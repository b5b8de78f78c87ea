//! Layers come plain, gzipped or as zstd; which one is told by their first bytes, as other engines do.

use std::io::{self, BufRead, Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

/// A decompressing reader over `R`.
pub(crate) enum Decompressor<R: BufRead> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<R>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, R>>),
}

impl<R: BufRead> Decompressor<R> {
    /// Looks at the first bytes of `input` and picks the decoder.
    pub(crate) fn new(mut input: R) -> io::Result<Self> {
        let head = input.fill_buf()?;
        if head.starts_with(&[0x1f, 0x8b]) {
            Ok(Self::Gzip(Box::new(MultiGzDecoder::new(input))))
        } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Ok(Self::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(input)?)))
        } else {
            Ok(Self::Plain(input))
        }
    }
}

impl<R: BufRead> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(inner) => inner.read(buffer),
            Self::Gzip(inner) => inner.read(buffer),
            Self::Zstd(inner) => inner.read(buffer),
        }
    }
}

/// A gzip encoder whose output depends on its input only: no name, no time, no operating system.
pub(crate) fn reproducible_gzip<W: Write>(output: W) -> GzEncoder<W> {
    flate2::GzBuilder::new().mtime(0).operating_system(255).write(output, flate2::Compression::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decompress(data: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Decompressor::new(data)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn tells_the_formats_apart() {
        let text = b"the same text in each form".to_vec();
        let mut gzip = reproducible_gzip(Vec::new());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        let two_members = [gzip.clone(), gzip.clone()].concat();
        assert_eq!(decompress(&text).unwrap(), text);
        assert_eq!(decompress(&gzip).unwrap(), text);
        assert_eq!(decompress(&two_members).unwrap(), [text.clone(), text.clone()].concat());
        assert_eq!(decompress(&zstd::encode_all(&text[..], 3).unwrap()).unwrap(), text);
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        let mut gzip = reproducible_gzip(Vec::new());
        gzip.write_all(&[7; 5000]).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(&[7u8; 5000][..], 3).unwrap();
        assert!(decompress(&gzip[..gzip.len() - 6]).is_err());
        assert!(decompress(&zstd[..zstd.len() - 3]).is_err());
    }
}
