//! Content-addressed files below `blobs/sha256` of an OCI image layout, ours or one that is loaded.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::{StoreError, files};
use crate::digest::Digest;

/// The largest manifest, index or configuration that is read, in bytes (as registries do).
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;

/// The blobs of the layout at a path.
#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    directory: PathBuf,
}

impl Blobs {
    pub(crate) fn of_layout(layout: &Path) -> Self {
        Self { directory: layout.join("blobs/sha256") }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    /// Whether a blob of that digest and size is there. Content was checked when it was put there.
    pub(crate) fn has(&self, digest: &Digest, size: u64) -> bool {
        std::fs::metadata(self.path(digest))
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
    }

    /// A small blob, checked against its digest.
    pub(crate) fn read(&self, what: &str, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let data = files::read_bounded(&self.path(digest), MAX_DOCUMENT)?;
        let got = Digest::of(&data);
        if got != *digest {
            return Err(StoreError::Digest { what: what.to_owned(), expected: *digest, got });
        }
        Ok(data)
    }

    /// A JSON document, checked against its digest.
    pub(crate) fn read_json<T: DeserializeOwned>(
        &self,
        what: &str,
        digest: &Digest,
    ) -> Result<T, StoreError> {
        let data = self.read(what, digest)?;
        serde_json::from_slice(&data)
            .map_err(|error| StoreError::malformed(format!("{what} {digest}"), error))
    }

    /// Stores a small blob.
    pub(crate) fn put(&self, temporary_directory: &Path, data: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(data);
        if !self.has(&digest, data.len() as u64) {
            files::write_whole(temporary_directory, &self.path(&digest), data, 0o444)?;
        }
        Ok(digest)
    }
}
