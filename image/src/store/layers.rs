//! Layers on their way into the store: each is checked, kept as a compressed blob, and made into one EROFS
//! image named by its diff-id, all in a single pass over its bytes.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::blobs::Blobs;
use super::{StoreError, files};
use crate::compression::{Decompressor, reproducible_gzip};
use crate::digest::{Digest, Hashing};
use crate::erofs::{self, LayerError, Limits};
use crate::progress::{ProgressFn, ProgressReader, Stage};
use crate::tar_stream::TarError;

/// Where layers live, and what they may hold.
#[derive(Debug, Clone)]
pub(crate) struct Layers {
    pub(crate) directory: PathBuf,
    pub(crate) temporary: PathBuf,
    pub(crate) blobs: Blobs,
    pub(crate) limits: Limits,
}

/// What a manifest and a configuration say about one layer.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) diff_id: Digest,
}

impl Layers {
    /// The layer's EROFS image.
    pub(crate) fn erofs(&self, diff_id: &Digest) -> PathBuf {
        self.directory.join(format!("{}.erofs", diff_id.hex()))
    }

    /// Makes sure that the layer in `source` is here as a blob and as an EROFS image.
    pub(crate) fn add_blob(
        &self,
        source: &Path,
        expected: &Expected,
        progress: ProgressFn<'_>,
    ) -> Result<(), StoreError> {
        let Expected { digest, size, diff_id } = expected;
        let has_blob = self.blobs.has(digest, *size);
        if has_blob && self.erofs(diff_id).exists() {
            return Ok(());
        }
        let (file, _) = files::open_regular(source)?;
        let name = digest.to_string();
        // One byte more than is allowed shows that the file is too long.
        let input = ProgressReader::new(file.take(size + 1), Stage::Layer, &name, *size, progress);
        let mut copy = if has_blob { None } else { Some(self.temporary_file()?) };
        let mut input = BufReader::with_capacity(64 << 10, Hashing::new(Tee { input, copy: copy.as_mut() }));

        let converted = Decompressor::new(&mut input)
            .map_err(|error| LayerError::Tar(error.into()))
            .and_then(|tar| self.convert(tar, Some(diff_id)));
        // What the decoder left: after it the digest is that of the whole file. A wrong digest explains any
        // trouble that converting had, so it is told first.
        io::copy(&mut input, &mut io::sink()).map_err(StoreError::io("read", source))?;
        let (_, got, count) = input.into_inner().finish();
        let what = format!("layer {name}");
        if count != *size {
            return Err(StoreError::Size { what, expected: *size, got: count });
        }
        if got != *digest {
            return Err(StoreError::Digest { what, expected: *digest, got });
        }
        let converted = converted.map_err(|source| StoreError::Layer { layer: name, source })?;
        if converted.diff_id != *diff_id {
            let what = format!("the content of {what}");
            return Err(StoreError::Digest { what, expected: *diff_id, got: converted.diff_id });
        }
        self.publish(converted, copy.map(|copy| (copy, *digest)))
    }

    /// Adds the layer in a tar file, which may be compressed; the blob is a gzip of our own making.
    pub(crate) fn add_tar(&self, source: &Path, progress: ProgressFn<'_>) -> Result<Expected, StoreError> {
        let (file, total) = files::open_regular(source)?;
        let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let layer_error = |source| StoreError::Layer { layer: name.clone(), source };
        let input = BufReader::new(ProgressReader::new(file, Stage::Layer, &name, total, progress));
        let tar = Decompressor::new(input).map_err(|error| layer_error(LayerError::Tar(error.into())))?;

        let mut blob = self.temporary_file()?;
        let mut gzip = reproducible_gzip(Hashing::new(blob.as_file_mut()));
        let converted =
            self.convert(Tee { input: tar, copy: Some(&mut gzip) }, None).map_err(&layer_error)?;
        let written = gzip.finish().map(Hashing::finish);
        let (_, digest, size) = written.map_err(StoreError::io("write", &self.temporary))?;
        let expected = Expected { digest, size, diff_id: converted.diff_id };
        self.publish(converted, Some((blob, digest)))?;
        Ok(expected)
    }

    /// Reads a whole tar stream into a new EROFS image, or only digests it if `known` has an image already.
    fn convert(&self, tar: impl Read, known: Option<&Digest>) -> Result<Converted, LayerError> {
        let mut tar = Hashing::new(Bounded { input: tar, limit: self.limits.tar_bytes, count: 0 });
        let mut erofs = None;
        if !known.is_some_and(|diff_id| self.erofs(diff_id).exists()) {
            let mut file = NamedTempFile::new_in(&self.temporary).map_err(LayerError::Write)?;
            erofs::write_layer(&mut tar, file.as_file_mut(), self.limits)?;
            erofs = Some(file);
        }
        io::copy(&mut tar, &mut io::sink()).map_err(TarError::Read)?;
        let (_, diff_id, _) = tar.finish();
        Ok(Converted { diff_id, erofs })
    }

    /// Gives the finished files their names, the blob last: what has a blob has an image.
    fn publish(&self, converted: Converted, blob: Option<(NamedTempFile, Digest)>) -> Result<(), StoreError> {
        let path = self.erofs(&converted.diff_id);
        if let Some(erofs) = converted.erofs
            && !path.exists()
        {
            files::publish(erofs, &path, 0o444)?;
        }
        if let Some((blob, digest)) = blob {
            files::publish(blob, &self.blobs.path(&digest), 0o444)?;
        }
        Ok(())
    }

    fn temporary_file(&self) -> Result<NamedTempFile, StoreError> {
        NamedTempFile::new_in(&self.temporary)
            .map_err(StoreError::io("create a temporary file in", &self.temporary))
    }
}

/// A layer that was read; its image is still under a temporary name, or was there before.
struct Converted {
    diff_id: Digest,
    erofs: Option<NamedTempFile>,
}

/// Writes what is read to a second place.
struct Tee<R, W> {
    input: R,
    copy: Option<W>,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        if let Some(copy) = &mut self.copy {
            copy.write_all(&buffer[..count])?;
        }
        Ok(count)
    }
}

/// Fails when more is read than may be: a small file can unpack to terabytes.
struct Bounded<R> {
    input: R,
    limit: u64,
    count: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.count += count as u64;
        if self.count > self.limit {
            let message = format!("it unpacks to more than {} bytes, the limit for a layer", self.limit);
            return Err(io::Error::other(message));
        }
        Ok(count)
    }
}

/// The length of a layer's EROFS image in bytes.
pub(crate) fn erofs_size(path: &Path) -> io::Result<u64> {
    File::open(path)?.metadata().map(|metadata| metadata.len())
}
