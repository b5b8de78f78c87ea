//! Figures of a machine as JSON, in the shape and with the names of Firecracker's metrics where it has one.
//!
//! [`collect`] tells all that has been counted since the machine started. A [`MetricsFile`] gets lines that tell what has
//! been counted since the line before, as Firecracker's do.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::ApiError;
use super::guest::Guest;
use crate::events::BootEvent;
use crate::snapshot::wall_clock_ns;

/// Figures of one device or part.
type Group = BTreeMap<String, u64>;

/// Figures by device or part: `block`, `block_rootfs`, `net`, …
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Figures {
    /// When they were right: milliseconds since 1970.
    utc_timestamp_ms: u64,
    /// Counts since the start.
    #[serde(flatten)]
    counted: BTreeMap<String, Group>,
    /// How things are, where that is no count.
    now: BTreeMap<String, Group>,
}

impl Figures {
    /// Adds `value` to a figure.
    pub(crate) fn add(&mut self, group: &str, name: &str, value: u64) {
        let figure = self.counted.entry(group.to_owned()).or_default().entry(name.to_owned()).or_default();
        *figure = figure.wrapping_add(value);
    }

    /// Says how things are.
    pub(crate) fn set(&mut self, group: &str, name: &str, value: u64) {
        self.now.entry(group.to_owned()).or_default().insert(name.to_owned(), value);
    }

    /// What has been counted since `earlier`.
    fn since(&self, earlier: &Self) -> Self {
        let mut figures = self.clone();
        for (name, group) in &mut figures.counted {
            for (figure, value) in group {
                let before = earlier.counted.get(name).and_then(|group| group.get(figure));
                *value = value.saturating_sub(before.copied().unwrap_or(0));
            }
        }
        figures
    }
}

/// All that has been counted, and when the steps of the start were.
pub(crate) fn collect(guest: Option<&dyn Guest>, start: &[BootEvent]) -> Figures {
    let mut figures = Figures { utc_timestamp_ms: wall_clock_ns() / 1_000_000, ..Figures::default() };
    for device in guest.into_iter().flat_map(Guest::counters) {
        for counter in &device.counters {
            // Firecracker tells the sum of a kind, and each by itself.
            figures.add(device.kind, counter.name, counter.value);
            if let Some(id) = &device.id {
                figures.add(&format!("{}_{id}", device.kind), counter.name, counter.value);
            }
        }
    }
    for group in guest.into_iter().flat_map(Guest::statistics) {
        for figure in &group.figures {
            if figure.is_now {
                figures.set(&group.group, &figure.name, figure.value);
            } else {
                figures.add(&group.group, &figure.name, figure.value);
            }
        }
    }
    for BootEvent { milestone, at_ns } in start {
        // A milestone without a name is a mark of the guest's.
        if let Ok(serde_json::Value::String(name)) = serde_json::to_value(milestone) {
            figures.set("boot_ns", &name, *at_ns);
        }
    }
    figures
}

/// A file or FIFO that gets figures.
#[derive(Debug)]
pub(super) struct MetricsFile {
    path: PathBuf,
    file: File,
    written: Figures,
}

impl MetricsFile {
    /// Opens `path`, which is made if it is not there. A FIFO may have no reader yet.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(path: &Path) -> Result<Self, ApiError> {
        // For reading too: without a reader, a FIFO cannot be opened for writing alone.
        let mut options = OpenOptions::new();
        options.create(true).read(true).append(true).custom_flags(libc::O_NONBLOCK);
        let file = options.open(path).map_err(|source| ApiError::File { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file, written: Figures::default() })
    }

    /// Adds a line with what has been counted since the last one.
    ///
    /// # Errors
    /// It cannot be written; what was to be told comes with the next line.
    pub(super) fn write(&mut self, figures: Figures) -> Result<(), ApiError> {
        let line = serde_json::to_string(&figures.since(&self.written)).map_err(io::Error::from);
        let written = line.and_then(|line| self.file.write_all(format!("{line}\n").as_bytes()));
        written.map_err(|source| ApiError::File { path: self.path.clone(), source })?;
        self.written = figures;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(read: u64) -> Figures {
        let mut figures = Figures::default();
        figures.add("block", "read_count", read);
        figures
    }

    #[test]
    fn lines_tell_what_has_come_since_the_last_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics");
        let mut file = MetricsFile::open(&path).unwrap();
        file.write(figures(5)).unwrap();
        file.write(figures(7)).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let line = |count| format!(r#"{{"utc_timestamp_ms":0,"block":{{"read_count":{count}}},"now":{{}}}}"#);
        assert_eq!(text.lines().collect::<Vec<_>>(), [line(5), line(2)]);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let error = MetricsFile::open(Path::new("/nowhere/m")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/m"), "{error}");
    }
}
