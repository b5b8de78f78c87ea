//! Writes a report to its file, all of it or nothing: what an interrupted run leaves is the last whole report.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Report;

/// A report could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the report {}: {source}; choose another place or make room", path.display())]
pub struct SaveError {
    path: PathBuf,
    source: io::Error,
}

/// Writes `report` as JSON to `path` by way of a new file beside it, synced before it takes the place of the old one.
///
/// # Errors
/// [`SaveError`] when the directory is missing or not writable, or the disk is full. The old file is then unharmed.
pub fn json(report: &Report, path: &Path) -> Result<(), SaveError> {
    bytes(report.to_json().as_bytes(), path)
}

/// Writes `content` to `path` in the same way.
///
/// # Errors
/// As for [`json`].
pub fn bytes(content: &[u8], path: &Path) -> Result<(), SaveError> {
    let failed = |source| SaveError { path: path.to_owned(), source };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new().prefix(".report-").tempfile_in(directory).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    // A temporary file is private; a report is for everybody who may look into the directory.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(readable).map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn replaces_the_file_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("report.json");
        let report = example::report();
        json(&report, &path).expect("first");
        json(&report, &path).expect("again");
        let read: Report =
            serde_json::from_slice(&std::fs::read(&path).expect("the file")).expect("a report");
        assert_eq!(read, report);
        assert_eq!(std::fs::read_dir(dir.path()).expect("the directory").count(), 1);
    }

    #[test]
    fn names_the_file_it_could_not_write() {
        let error = bytes(b"x", Path::new("/nowhere/at/all.json")).expect_err("no such directory");
        assert!(error.to_string().contains("/nowhere/at/all.json"), "{error}");
    }
}
