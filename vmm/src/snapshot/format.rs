//! The file of a machine's state: a line of text, then JSON.
//!
//! ```text
//! carve-snapshot 1 3f2a9c01 20480\n{"config":…}
//!                │ │        └ bytes of JSON
//!                │ └ their CRC-32 (IEEE), in hexadecimal
//!                └ version of the format
//! ```
//!
//! It is written beside its place and renamed, so that there is a whole one or none.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::SnapshotError;

/// The version that is written, and the only one that is read.
pub(crate) const VERSION: &str = "1";
const MAGIC: &str = "carve-snapshot";
/// Longest first line.
const MAX_LINE: usize = 64;
/// Largest state in bytes: a machine with 64 vCPUs has about two MiB.
const MAX_STATE: u64 = 32 << 20;

/// Writes `state` to `path`, durably.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write<T: Serialize>(path: &Path, state: &T) -> Result<(), SnapshotError> {
    let failed = |source: std::io::Error| SnapshotError::file("write", path)(source);
    let json = serde_json::to_vec(state).map_err(|error| failed(error.into()))?;
    let crc = crc32(&json);
    super::memory::replace(path, |file: &File| {
        let mut file = file;
        writeln!(file, "{MAGIC} {VERSION} {crc:08x} {}", json.len())?;
        file.write_all(&json)
    })
    .map_err(failed)
}

/// `json` behind the line that goes with it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn with_line(json: &[u8]) -> Vec<u8> {
    let line = format!("{MAGIC} {VERSION} {:08x} {}\n", crc32(json), json.len());
    [line.as_bytes(), json].concat()
}

/// Reads a state from `path`.
///
/// # Errors
/// The file cannot be read, is none of ours, of another version, or damaged.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, SnapshotError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(SnapshotError::file("open", path))?;
    file.take(MAX_STATE + 1).read_to_end(&mut bytes).map_err(SnapshotError::file("read", path))?;
    parse(&bytes, path)
}

/// Parses the bytes of a state file.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T, SnapshotError> {
    let none =
        |problem: &str| SnapshotError::NotASnapshot { path: path.to_owned(), problem: problem.to_owned() };
    let damaged = |problem: String| SnapshotError::Damaged { path: path.to_owned(), problem };
    let line_end = bytes.iter().take(MAX_LINE).position(|byte| *byte == b'\n');
    let line_end = line_end.ok_or_else(|| none("it does not begin with a line that says so"))?;
    let line = str::from_utf8(&bytes[..line_end]).map_err(|_| none("it does not begin with text"))?;
    let mut words = line.split(' ');
    if words.next() != Some(MAGIC) {
        return Err(none("it begins with other words"));
    }
    match words.next() {
        Some(VERSION) => {}
        found => {
            let found = found.unwrap_or("none").to_owned();
            return Err(SnapshotError::Version { path: path.to_owned(), found });
        }
    }
    let json = &bytes[line_end + 1..];
    let expected = (format!("{:08x}", crc32(json)), json.len().to_string());
    if (words.next(), words.next()) != (Some(&*expected.0), Some(&*expected.1)) || words.next().is_some() {
        return Err(damaged(format!("its {} bytes are not those that were written", json.len())));
    }
    serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(state: &impl Serialize) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write(&path, state).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = written(&vec![1, 2, 3]);
        assert!(bytes.starts_with(b"carve-snapshot 1 "));
        assert_eq!(parse::<Vec<u8>>(&bytes, Path::new("s")).unwrap(), [1, 2, 3]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let good = String::from_utf8(written(&vec![1, 2, 3])).unwrap();
        let cases = [
            (String::new(), "is not a snapshot's state"),
            ("\u{7f}ELF".to_owned(), "is not a snapshot's state"),
            ("x".repeat(1000), "is not a snapshot's state"),
            ("other words\n".to_owned(), "begins with other words"),
            (good.replace("snapshot 1", "snapshot 2"), "is a snapshot of format 2"),
            (good.replace("[1", "[7"), "is damaged"),
            (format!("{good} "), "is damaged"),
            (good[..good.len() - 1].to_owned(), "is damaged"),
            (good.replace('\n', " 1\n"), "is damaged"),
        ];
        for (text, wanted) in cases {
            let error = parse::<Vec<u8>>(text.as_bytes(), Path::new("s")).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text:?}: {error}");
        }
        let error = parse::<Vec<String>>(good.as_bytes(), Path::new("s")).unwrap_err();
        assert!(matches!(error, SnapshotError::Damaged { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_a_state(bytes: Vec<u8>) {
            let _ = parse::<super::super::Snapshot>(&bytes, Path::new("s"));
        }
    }
}
