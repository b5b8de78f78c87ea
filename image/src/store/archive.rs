//! What is loaded: an OCI image layout in a directory, or a tar of one, compressed or not, which is spread
//! into a temporary directory first because its index may come last.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{StoreError, files};
use crate::compression::Decompressor;
use crate::digest::Digest;
use crate::progress::{ProgressFn, ProgressReader, Stage};
use crate::tar_stream::{EntryKind, TarError, TarStream};

/// A layout that can be read; a temporary one goes away with this.
pub(super) struct Source {
    pub(super) layout: PathBuf,
    _temporary: Option<TempDir>,
}

impl Source {
    /// Opens `path`, using `temporary` for what an archive holds, which may be `limit` bytes.
    pub(super) fn open(
        path: &Path,
        temporary: &Path,
        limit: u64,
        progress: ProgressFn<'_>,
    ) -> Result<Self, StoreError> {
        let metadata = std::fs::metadata(path).map_err(StoreError::io("read", path))?;
        if metadata.is_dir() {
            check(path, path)?;
            return Ok(Self { layout: path.to_owned(), _temporary: None });
        }
        let directory =
            tempfile::tempdir_in(temporary).map_err(StoreError::io("create a directory in", temporary))?;
        spread(path, directory.path(), limit, progress)?;
        check(path, directory.path())?;
        Ok(Self { layout: directory.path().to_owned(), _temporary: Some(directory) })
    }
}

/// Whether `layout` has what makes an OCI image layout; `path` is what the user named.
fn check(path: &Path, layout: &Path) -> Result<(), StoreError> {
    let reason = if layout.join("oci-layout").is_file() && layout.join("index.json").is_file() {
        return Ok(());
    } else if layout.join("manifest.json").is_file() {
        "it is in Docker's old format; convert it with `skopeo copy docker-archive:FILE oci-archive:NEW`"
    } else {
        "it has no oci-layout and index.json; a plain filesystem is taken by `carve image import`"
    };
    Err(StoreError::NotALayout { path: path.to_owned(), reason })
}

/// Spreads the files of a layout that the archive holds; anything else in it is skipped.
fn spread(path: &Path, into: &Path, limit: u64, progress: ProgressFn<'_>) -> Result<(), StoreError> {
    let not_readable = |error: TarError| StoreError::malformed(path.display().to_string(), error);
    let (file, total) = files::open_regular(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let input = BufReader::new(ProgressReader::new(file, Stage::Opening, &name, total, progress));
    let tar = Decompressor::new(input).map_err(|error| not_readable(error.into()))?;
    let mut tar = TarStream::new(tar);
    std::fs::create_dir_all(into.join("blobs/sha256")).map_err(StoreError::io("create", into))?;
    let mut spread: u64 = 0;
    let mut buffer = vec![0; 128 << 10];
    while let Some(entry) = tar.next_entry().map_err(not_readable)? {
        let Some(target) = target(into, &entry.path).filter(|_| entry.kind == EntryKind::File) else {
            continue;
        };
        spread = spread.saturating_add(entry.size);
        if spread > limit {
            let what = path.display().to_string();
            return Err(StoreError::TooBig { what, got: spread, limit, unit: "bytes when unpacked" });
        }
        let mut output = File::create(&target).map_err(StoreError::io("create", &target))?;
        loop {
            match tar.read_data(&mut buffer).map_err(not_readable)? {
                0 => break,
                count => output.write_all(&buffer[..count]).map_err(StoreError::io("write", &target))?,
            }
        }
    }
    Ok(())
}

/// Where a file of a layout goes; none for anything else.
fn target(into: &Path, path: &[u8]) -> Option<PathBuf> {
    let path = std::str::from_utf8(path).ok()?;
    let path = path.strip_prefix("./").unwrap_or(path);
    match path {
        "oci-layout" | "index.json" | "manifest.json" => Some(into.join(path)),
        _ => {
            let hex = path.strip_prefix("blobs/sha256/")?;
            let digest: Digest = format!("sha256:{hex}").parse().ok()?;
            Some(into.join("blobs/sha256").join(digest.hex()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_a_layout_are_spread() {
        let hex = Digest::of(b"x").hex();
        let into = Path::new("/t");
        assert_eq!(target(into, b"./index.json"), Some("/t/index.json".into()));
        let blob = format!("blobs/sha256/{hex}");
        assert_eq!(target(into, blob.as_bytes()), Some(into.join(&blob)));
        for path in ["../index.json", "/etc/passwd", "blobs/sha256/../../x", "blobs/sha256/", "x/index.json"]
        {
            assert_eq!(target(into, path.as_bytes()), None, "{path}");
        }
    }
}
