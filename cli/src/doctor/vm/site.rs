//! Where the machines of an examination run: a directory for their files, which goes with it, and whether the user wants
//! it to end.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use signal_hook::consts::signal::{SIGINT, SIGTERM};
use tempfile::TempDir;

use super::machine::Machine;

/// The site of one examination.
pub(super) struct Site {
    dir: TempDir,
    stop: Arc<AtomicBool>,
}

impl Site {
    /// Makes the directory. From now on Ctrl-C and SIGTERM end what is running, and then the examination; a second one
    /// ends this process at once.
    ///
    /// # Errors
    /// There is no room for temporary files, or signals cannot be caught.
    pub(super) fn new() -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
                .context("cannot catch Ctrl-C")?;
        }
        let dir =
            tempfile::Builder::new().prefix("carve-doctor-").tempdir().context("no temporary directory")?;
        Ok(Self { dir, stop })
    }

    /// For files.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs `command`, as long as the examination goes on.
    ///
    /// # Errors
    /// It cannot be run.
    pub(super) fn start(&self, command: &mut Command) -> Result<Machine, String> {
        Machine::start(command, Arc::clone(&self.stop))
    }

    /// Whether somebody wants the examination to end.
    pub(super) fn is_interrupted(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
