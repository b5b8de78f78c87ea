//! Where this process's logs go: standard error. Those of a VMM's process are in `vm_process/log.rs`.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging: what `CARVE_LOG` says, or warnings.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_env("CARVE_LOG").unwrap_or_else(|_| "warn".into());
    let on_terminal = std::io::stderr().is_terminal();
    let lines = fmt().with_writer(std::io::stderr).with_ansi(on_terminal).without_time().with_target(false);
    lines.with_env_filter(filter).init();
}
