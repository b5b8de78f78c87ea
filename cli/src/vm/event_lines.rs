//! Boot events as JSON lines, in the form that `carve run --events` has.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use engine::Events;
use serde_json::{Map, json};
use vmm::{BootEvent, EventSink, Milestone};

/// A file of events, or none.
pub(super) struct EventLines(Mutex<Events>);

impl EventLines {
    /// Opens the file, to which events are appended.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let mut events = Events::open(path)?;
        if path.is_some() {
            events.record("cli.start");
        }
        Ok(Self(Mutex::new(events)))
    }
}

impl EventSink for EventLines {
    fn record(&self, event: BootEvent) {
        let name = json!(event.milestone);
        let (name, fields) = match (event.milestone, name.as_str()) {
            (Milestone::GuestMark(value), _) => {
                ("guest_mark", Map::from_iter([("value".to_owned(), json!(value))]))
            }
            (_, Some(name)) => (name, Map::new()),
            (_, None) => return,
        };
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.record_at(&format!("vmm.{name}"), event.at_ns, fields);
    }
}
