//! A log without spans, for processes whose memory is counted: the VMM's and the runtime's.

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// What becomes of the events of a process.
pub(crate) trait Events: Send + Sync + 'static {
    /// Whether it takes events like this.
    fn wants(&self, metadata: &Metadata<'_>) -> bool;

    /// The most detailed events that it takes.
    fn most(&self) -> LevelFilter;

    /// Takes one.
    fn take(&self, event: &Event<'_>);
}

/// A subscriber that passes events on, and keeps no spans.
pub(crate) struct Spanless<T>(pub(crate) T);

impl<T: Events> Subscriber for Spanless<T> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.most())
    }

    fn event(&self, event: &Event<'_>) {
        self.0.take(event);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
