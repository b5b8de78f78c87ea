//! `--pid-file`: where callers look for a process's id.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::error::RuntimeError;

/// Written to another name first: whoever waits for the file finds it whole.
pub(super) fn write(path: &Path, pid: i32) -> Result<(), RuntimeError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{pid}.new"));
    let new = path.with_file_name(name);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&new)
        .and_then(|mut file| file.write_all(pid.to_string().as_bytes()))
        .and_then(|()| fs::rename(&new, path));
    written.map_err(|error| RuntimeError::file(path, error))
}
