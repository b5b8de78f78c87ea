//! What a VMM logs: warnings and errors, a line each, on standard error.
//!
//! Far less than the other commands' logs can do, and far smaller: a VMM's memory is counted.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Longest line, in bytes: what a guest can make a VMM say is bounded.
const LONGEST: usize = 512;

/// Takes what this process logs from now on; `CARVE_LOG` may name a level.
pub(super) fn start() {
    let wanted = std::env::var("CARVE_LOG").ok().and_then(|level| level.parse::<Level>().ok());
    let logs = Lines(wanted.unwrap_or(Level::WARN));
    // There is no other before it.
    let _ = tracing::subscriber::set_global_default(logs);
}

/// Lines for events up to a level.
struct Lines(Level);

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.0
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.into())
    }

    fn event(&self, event: &Event<'_>) {
        eprint!("{}", line(*event.metadata().level(), |line| event.record(line)));
    }

    // Nothing here has spans.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn line(level: Level, fill: impl FnOnce(&mut Line)) -> String {
    let mut line = Line(format!("{level:>5} "));
    fill(&mut line);
    let mut line = line.0.replace(char::is_control, " ");
    line.truncate(line.floor_char_boundary(LONGEST));
    line.push('\n');
    line
}

/// A line in the making.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let written = match field.name() {
            "message" => write!(self.0, "{value:?} "),
            name => write!(self.0, "{name}={value:?} "),
        };
        debug_assert_eq!(written, Ok::<(), fmt::Error>(()), "writing to a string cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_no_control_characters_and_an_end() {
        let text = line(Level::WARN, |line| line.0.push_str(&format!("\x1b[2Jdisk\n{}", "é".repeat(400))));
        assert!(text.starts_with(" WARN  [2Jdisk é"), "{text}");
        assert!(text.len() <= LONGEST + 1 && text.ends_with('\n'), "{}", text.len());
        assert_eq!(text.matches(char::is_control).count(), 1);
    }
}
