//! Where this process's logs go: standard error, until somebody says otherwise.

use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;

use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};
use vmm::api::LogControl;
use vmm::api::model::{LogLevel, Logger};

type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Lines = Box<dyn Layer<Filtered> + Send + Sync>;

/// What can be changed of them.
pub(crate) struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
    lines: reload::Handle<Lines, Filtered>,
}

/// Starts logging: what `CARVE_LOG` says, or warnings.
pub(crate) fn start() -> Logs {
    let filter = EnvFilter::try_from_env("CARVE_LOG").unwrap_or_else(|_| "warn".into());
    let (filter, filter_handle) = reload::Layer::new(filter);
    let on_terminal = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(on_terminal);
    let lines: Lines = Box::new(lines.without_time().with_target(false));
    let (lines, lines_handle) = reload::Layer::new(lines);
    tracing_subscriber::registry().with(filter).with(lines).init();
    Logs { filter: filter_handle, lines: lines_handle }
}

impl LogControl for Logs {
    fn set(&mut self, logger: &Logger) -> Result<(), String> {
        if let Some(path) = &logger.log_path {
            // For reading too: without a reader, a FIFO cannot be opened for writing alone.
            let mut options = OpenOptions::new();
            options.create(true).read(true).append(true).custom_flags(libc::O_NONBLOCK);
            let file = options.open(path);
            let file = file.map_err(|error| format!("cannot write logs to {}: {error}", path.display()))?;
            let origin = logger.show_log_origin.unwrap_or(false);
            let lines = fmt::layer().with_writer(Mutex::new(file)).with_ansi(false).with_target(false);
            let lines = lines.with_level(logger.show_level.unwrap_or(false));
            let lines: Lines = Box::new(lines.with_file(origin).with_line_number(origin));
            self.lines.reload(lines).map_err(|error| error.to_string())?;
        }
        let directives = directives(logger);
        let filter = EnvFilter::try_new(&directives)
            .map_err(|error| format!("{directives:?} is no module to log: {error}"))?;
        self.filter.reload(filter).map_err(|error| error.to_string())
    }
}

/// What is logged, as a filter has it.
fn directives(logger: &Logger) -> String {
    let level = match logger.level.unwrap_or(LogLevel::Info) {
        LogLevel::Off => "off",
        LogLevel::Error => "error",
        LogLevel::Warning => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    match &logger.module {
        Some(module) => format!("{module}={level}"),
        None => level.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_may_be_chosen() {
        let logger = Logger { level: Some(LogLevel::Warning), ..Logger::default() };
        assert_eq!(directives(&logger), "warn");
        assert_eq!(
            directives(&Logger { module: Some("vmm::api".into()), ..Logger::default() }),
            "vmm::api=info"
        );
    }
}
