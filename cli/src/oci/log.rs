//! What the runtime says besides its answers: warnings on standard error, or as runc has it in the file of `--log`, where those
//! who drive a runtime look for errors too.
//!
//! Far less than the other commands' logs can do, and far smaller: a runtime's memory is counted. Only the command itself
//! logs; what init has to say it reports, and in it nothing of this is open.

use std::fmt::{self, Debug, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata};

use crate::spanless::{Events, Spanless};

/// How lines of the file look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LogFormat {
    /// `time="…" level=error msg="…"`
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`
    Json,
}

/// Where lines go, and how they look there.
#[derive(Clone)]
pub(super) struct Log {
    /// Standard error if none.
    file: Option<Arc<File>>,
    format: LogFormat,
    most: LevelFilter,
}

#[derive(Serialize)]
struct Line<'a> {
    level: &'a str,
    msg: &'a str,
    time: String,
}

impl Log {
    /// Opens the file, and takes what this process logs from now on.
    pub(super) fn start(path: Option<&Path>, format: LogFormat, debug: bool) -> anyhow::Result<Self> {
        let most = if debug { LevelFilter::DEBUG } else { LevelFilter::WARN };
        let log = Self { file: path.map(open).transpose()?.map(Arc::new), format, most };
        // There is no other before it.
        let _ = tracing::subscriber::set_global_default(Spanless(log.clone()));
        Ok(log)
    }

    /// Adds an error to the file. Standard error gets it in any case, and from others.
    pub(super) fn error(&self, message: &str) {
        if self.file.is_some() {
            self.write(Level::ERROR, message);
        }
    }

    fn write(&self, level: Level, message: &str) {
        // There is nowhere to say that there is no room for it.
        match &self.file {
            Some(file) => {
                let line = self.line(level, message, jiff::Timestamp::now().to_string());
                drop((&mut &**file).write_all(line.as_bytes()));
            }
            None => drop(writeln!(io::stderr(), "{level:>5} {}", message.replace(char::is_control, " "))),
        }
    }

    fn line(&self, level: Level, message: &str, time: String) -> String {
        let level = name(level);
        match self.format {
            LogFormat::Json => {
                let line = Line { level, msg: message, time };
                serde_json::to_string(&line).map(|line| line + "\n").unwrap_or_default()
            }
            LogFormat::Text => format!("time=\"{time}\" level={level} msg={message:?}\n"),
        }
    }
}

fn open(path: &Path) -> anyhow::Result<File> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.with_context(|| format!("cannot open the log {}", path.display()))
}

/// As other runtimes call it.
fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

impl Events for Log {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.most
    }

    fn most(&self) -> LevelFilter {
        self.most
    }

    fn take(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        self.write(*event.metadata().level(), &message.0);
    }
}

/// What an event says.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let space = if self.0.is_empty() { "" } else { " " };
        let written = match field.name() {
            "message" => write!(self.0, "{space}{value:?}"),
            name => write!(self.0, "{space}{name}={value:?}"),
        };
        debug_assert_eq!(written, Ok::<(), fmt::Error>(()), "writing to a string cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_other_runtimes_write_them() {
        let line = |format, level| {
            let log = Log { file: None, format, most: LevelFilter::WARN };
            log.line(level, "a \"b\"\nc", "2026-01-02T03:04:05Z".into())
        };
        assert_eq!(
            line(LogFormat::Json, Level::ERROR),
            "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\\nc\",\"time\":\"2026-01-02T03:04:05Z\"}\n"
        );
        assert_eq!(
            line(LogFormat::Text, Level::WARN),
            "time=\"2026-01-02T03:04:05Z\" level=warning msg=\"a \\\"b\\\"\\nc\"\n"
        );
    }

    #[test]
    fn the_file_gets_what_is_logged_up_to_the_level() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for most in [LevelFilter::WARN, LevelFilter::DEBUG] {
            let file = Some(Arc::new(open(&path).unwrap()));
            let log = Log { file, format: LogFormat::Text, most };
            tracing::subscriber::with_default(Spanless(log), || {
                tracing::debug!("a detail");
                tracing::warn!(limit = 7, "too low");
            });
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let said: Vec<_> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        let warning = "level=warning msg=\"too low limit=7\"";
        assert_eq!(said, [warning, "level=debug msg=\"a detail\"", warning]);
    }
}
