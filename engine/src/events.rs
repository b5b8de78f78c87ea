//! The steps of a start as JSON lines, for whoever measures one.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
};

use serde_json::{Map, Value};
use vmm::events::now_ns;

use crate::error::{EngineError, Result};

/// A sink for events: a file that several processes append to, or nothing.
///
/// A line is `{"event": NAME, "ns": CLOCK_MONOTONIC in nanoseconds, …}`.
#[derive(Debug, Default)]
pub struct Events(Option<File>);

impl Events {
    /// Events go to the end of this file; nowhere when there is none.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self(None)) };
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self(Some(file.map_err(EngineError::file("open the events file", path))?)))
    }

    /// Records that something happened now.
    pub fn record(&mut self, event: &str) {
        self.record_at(event, now_ns(), Map::new());
    }

    /// Records that something happened now, with a field.
    pub fn record_with(&mut self, event: &str, field: &str, value: impl Into<Value>) {
        self.record_at(event, now_ns(), Map::from_iter([(field.to_owned(), value.into())]));
    }

    /// Records that something happened at a time of `CLOCK_MONOTONIC`, in nanoseconds.
    pub fn record_at(&mut self, event: &str, ns: u64, fields: Map<String, Value>) {
        let Some(file) = &mut self.0 else { return };
        let mut line = Map::from_iter([("event".to_owned(), event.into()), ("ns".to_owned(), ns.into())]);
        line.extend(fields);
        let mut bytes = Value::Object(line).to_string().into_bytes();
        bytes.push(b'\n');
        // One write per line, so that lines of several processes do not mix. Whoever measures sees a missing line;
        // the instance does not end for it.
        if let Err(error) = file.write_all(&bytes) {
            tracing::warn!(%error, event, "cannot record an event");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appends_a_line_for_each_event() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let mut events = Events::open(Some(&path)).unwrap();
        events.record("one");
        Events::open(Some(&path)).unwrap().record_with("two", "pid", 7);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines[0]["event"], "one");
        assert_eq!(lines[1]["pid"], 7);
        assert!(lines[0]["ns"].as_u64() <= lines[1]["ns"].as_u64());
    }
}
