//! The steps of a machine's start, kept for whoever asks later.

use std::sync::{Arc, Mutex, PoisonError};

use crate::events::{BootEvent, EventSink, Milestone};

/// Passes events on, and keeps those of the start. A guest can make as many marks as it likes, so marks are not kept.
pub(crate) struct StartEvents {
    next: Arc<dyn EventSink>,
    seen: Mutex<Vec<BootEvent>>,
}

impl StartEvents {
    /// Passes events on to `next`.
    pub(crate) fn before(next: Arc<dyn EventSink>) -> Arc<Self> {
        Arc::new(Self { next, seen: Mutex::default() })
    }

    /// Those of the start, so far.
    pub(crate) fn seen(&self) -> Vec<BootEvent> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl EventSink for StartEvents {
    fn record(&self, event: BootEvent) {
        if !matches!(event.milestone, Milestone::GuestMark(_)) {
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        }
        self.next.record(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_the_guest_are_passed_on_but_not_kept() {
        let next: Arc<Mutex<Vec<BootEvent>>> = Arc::default();
        let events = StartEvents::before(next.clone());
        events.record(BootEvent::now(Milestone::FirstRun));
        events.record(BootEvent::now(Milestone::GuestMark(7)));
        assert_eq!((events.seen().len(), next.lock().unwrap().len()), (1, 2));
    }
}
