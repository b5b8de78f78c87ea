//! `carve vm-process`: is the VMM of one machine. Started by `vm boot`, `restore` and `serve` and by monitors, never by hand.
//!
//! Chosen before anything is parsed or set up: what a VMM has not touched is in none of its pages.

mod log;

use std::process::ExitCode;

/// Whether this process was started to be a VMM.
pub(crate) fn is_asked_for() -> bool {
    std::env::args_os().nth(1).is_some_and(|verb| verb == vmm::process::VERB)
}

/// Is one.
pub(crate) fn run() -> ExitCode {
    vmm::process::main(log::start())
}
