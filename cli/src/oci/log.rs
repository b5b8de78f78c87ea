//! `--log` and `--log-format`: the file in which those who drive a runtime look for its errors.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use tracing::Level;

/// How lines of the file look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LogFormat {
    /// `time="…" level=error msg="…"`
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`
    Json,
}

/// The file, if there is one.
pub(super) struct Log {
    file: Option<File>,
    format: LogFormat,
}

#[derive(Serialize)]
struct Line<'a> {
    level: &'a str,
    msg: &'a str,
    time: String,
}

impl Log {
    /// Opens the file, and has warnings written to standard error.
    pub(super) fn start(path: Option<&Path>, format: LogFormat, debug: bool) -> anyhow::Result<Self> {
        // No filter by module: its parser alone would be a good part of this process's memory.
        let most = if debug { Level::DEBUG } else { Level::WARN };
        let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().with_target(false);
        lines.with_ansi(false).with_max_level(most).init();
        let file = path.map(|path| {
            let opened = OpenOptions::new().create(true).append(true).open(path);
            opened.with_context(|| format!("cannot open the log {}", path.display()))
        });
        Ok(Self { file: file.transpose()?, format })
    }

    /// Adds an error.
    pub(super) fn error(&self, message: &str) {
        let Some(mut file) = self.file.as_ref() else { return };
        let line = self.line(message, jiff::Timestamp::now().to_string());
        // Standard error has it as well.
        let _ = file.write_all(line.as_bytes());
    }

    fn line(&self, message: &str, time: String) -> String {
        match self.format {
            LogFormat::Json => {
                let line = Line { level: "error", msg: message, time };
                serde_json::to_string(&line).map(|line| line + "\n").unwrap_or_default()
            }
            LogFormat::Text => format!("time=\"{time}\" level=error msg={message:?}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_other_runtimes_write_them() {
        let line = |format| Log { file: None, format }.line("a \"b\"\nc", "2026-01-02T03:04:05Z".into());
        assert_eq!(
            line(LogFormat::Json),
            "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\\nc\",\"time\":\"2026-01-02T03:04:05Z\"}\n"
        );
        assert_eq!(
            line(LogFormat::Text),
            "time=\"2026-01-02T03:04:05Z\" level=error msg=\"a \\\"b\\\"\\nc\"\n"
        );
    }
}
