//! What a VMM logs: warnings and errors, a line each, on standard error, until a client of its control socket says
//! otherwise.
//!
//! Far less than the other commands' logs can do, and far smaller: a VMM's memory is counted.

use std::fmt::{self, Debug, Write as _};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use vmm::api::LogControl;
use vmm::api::model::{LogLevel, Logger};

use crate::spanless::{Events, Spanless};

/// Longest line, in bytes: what a guest can make a VMM say is bounded.
const LONGEST: usize = 512;

/// Takes what this process logs from now on; `CARVE_LOG` may name a level. The result changes that.
pub(super) fn start() -> Box<dyn LogControl> {
    let wanted = std::env::var("CARVE_LOG").ok().and_then(|level| level.parse().ok());
    let settings = Settings { level: wanted.unwrap_or(LevelFilter::WARN), ..Settings::default() };
    let logs = Lines(Arc::new(RwLock::new(settings)));
    // There is no other before it.
    let _ = tracing::subscriber::set_global_default(Spanless(logs.clone()));
    Box::new(logs)
}

/// What is logged, how, and where.
struct Settings {
    level: LevelFilter,
    /// Only of this module and those in it.
    module: Option<String>,
    /// Standard error if none.
    file: Option<File>,
    show_level: bool,
    show_origin: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: LevelFilter::WARN, module: None, file: None, show_level: true, show_origin: false }
    }
}

impl Settings {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let is_of = |module: &String| {
            let rest = metadata.target().strip_prefix(module.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        *metadata.level() <= self.level && self.module.as_ref().is_none_or(is_of)
    }

    fn line(&self, metadata: &Metadata<'_>, fill: impl FnOnce(&mut Line)) -> String {
        let mut line = Line(String::new());
        if self.file.is_some() {
            let written = SystemTime.format_time(&mut Writer::new(&mut line.0));
            debug_assert_eq!(written, Ok::<(), fmt::Error>(()), "writing to a string cannot fail");
            line.0.push(' ');
        }
        if self.show_level {
            line.add(format_args!("{:>5} ", metadata.level()));
        }
        if let (true, Some(file)) = (self.show_origin, metadata.file()) {
            line.add(format_args!("{file}:{}: ", metadata.line().unwrap_or_default()));
        }
        fill(&mut line);
        let mut line = line.0.replace(char::is_control, " ");
        line.truncate(line.floor_char_boundary(LONGEST));
        line.push('\n');
        line
    }
}

/// Lines for events.
#[derive(Clone)]
struct Lines(Arc<RwLock<Settings>>);

impl Lines {
    fn settings(&self) -> RwLockReadGuard<'_, Settings> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogControl for Lines {
    fn set(&mut self, logger: &Logger) -> Result<(), String> {
        let file = logger.log_path.as_deref().map(open).transpose()?;
        {
            let mut settings = self.0.write().unwrap_or_else(PoisonError::into_inner);
            if file.is_some() {
                settings.show_level = logger.show_level.unwrap_or(false);
                settings.show_origin = logger.show_log_origin.unwrap_or(false);
                settings.file = file;
            }
            settings.level = level(logger.level.unwrap_or(LogLevel::Info));
            settings.module.clone_from(&logger.module);
        }
        // What is logged nowhere is remembered where it would be.
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }
}

fn open(path: &Path) -> Result<File, String> {
    // For reading too: without a reader, a FIFO cannot be opened for writing alone.
    let mut options = OpenOptions::new();
    options.create(true).read(true).append(true).custom_flags(libc::O_NONBLOCK);
    options.open(path).map_err(|error| format!("cannot write logs to {}: {error}", path.display()))
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

impl Events for Lines {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        self.settings().wants(metadata)
    }

    fn most(&self) -> LevelFilter {
        self.settings().level
    }

    fn take(&self, event: &Event<'_>) {
        let settings = self.settings();
        let line = settings.line(event.metadata(), |line| event.record(line));
        match &settings.file {
            // There is nowhere to say that there is no room for it.
            Some(file) => drop((&mut &*file).write_all(line.as_bytes())),
            None => eprint!("{line}"),
        }
    }
}

/// A line in the making.
struct Line(String);

impl Line {
    fn add(&mut self, words: fmt::Arguments<'_>) {
        let written = self.0.write_fmt(words);
        debug_assert_eq!(written, Ok::<(), fmt::Error>(()), "writing to a string cannot fail");
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.add(format_args!("{value:?} ")),
            name => self.add(format_args!("{name}={value:?} ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_no_control_characters_and_an_end() {
        tracing::subscriber::with_default(Spanless(Checks), || {
            tracing::warn!("\x1b[2Jdisk\n{}", "é".repeat(400))
        });
    }

    /// Looks at the line of each event.
    struct Checks;

    impl Events for Checks {
        fn wants(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn most(&self) -> LevelFilter {
            LevelFilter::TRACE
        }
        fn take(&self, event: &Event<'_>) {
            let settings = Settings::default();
            let text = settings.line(event.metadata(), |line| event.record(line));
            assert!(text.starts_with(" WARN  [2Jdisk é"), "{text}");
            assert!(text.len() <= LONGEST + 1 && text.ends_with('\n'), "{}", text.len());
            assert_eq!(text.matches(char::is_control).count(), 1);
        }
    }

    #[test]
    fn a_client_chooses_file_level_and_module() {
        let dir = tempfile::tempdir().unwrap();
        let mut logs = Lines(Arc::default());
        let path = dir.path().join("log");
        let module = Some("carve::vm_process".to_owned());
        let logger =
            Logger { log_path: Some(path.clone()), show_level: Some(true), module, ..Logger::default() };
        logs.set(&logger).unwrap();
        tracing::subscriber::with_default(Spanless(logs.clone()), || {
            tracing::debug!("not this");
            tracing::warn!(target: "carve::vm_processes", "nor this");
            tracing::info!(disk = 7, "this");
        });
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.ends_with("Z  INFO this disk=7 \n") && text.lines().count() == 1, "{text:?}");
        let nowhere = Logger { log_path: Some("/nowhere/log".into()), ..Logger::default() };
        assert!(logs.set(&nowhere).unwrap_err().contains("/nowhere/log"));
    }
}
