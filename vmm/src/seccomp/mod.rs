//! The system calls that the VMM's threads may make once the guest runs: a filter for each kind of thread.
//!
//! `lists` says which and why, `compile` makes a program for the kernel of a list, `crate::sys::violation` is what happens
//! on any other call: the process says which one it was and ends. The lists are also in `docs/jail-system-calls.md`, which a test holds
//! against them.

mod allowed;
mod compile;
mod lists;
mod requests;

use crate::sys::violation;

/// What a thread is for, and so which calls it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadKind {
    /// Obeys the parent.
    Main,
    /// Obeys the parent and serves the control socket of a machine that has no files but those it began with.
    Api,
    /// The same, and opens and writes files for clients.
    ApiWithFiles,
    /// Runs the event loop, and so all devices.
    Devices,
    /// Runs a vCPU.
    Vcpu,
    /// Serves a debugger.
    Debugger,
}

impl ThreadKind {
    /// Every kind there is.
    pub const ALL: [Self; 6] =
        [Self::Main, Self::Api, Self::ApiWithFiles, Self::Devices, Self::Vcpu, Self::Debugger];
}

/// A filter that could not be installed. The guest does not start then.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot filter the system calls of the {kind:?} thread: {source}; --no-jail does without, see docs/jail.md"
)]
pub struct SeccompError {
    kind: ThreadKind,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Has a forbidden call, in any thread, end the process with a word to its parent.
///
/// # Errors
/// The signal cannot be had.
pub fn report_violations() -> std::io::Result<()> {
    violation::report()
}

/// Confines the calling thread to the calls that its kind needs, for good.
///
/// # Errors
/// The kernel has no filters.
pub fn install(kind: ThreadKind) -> Result<(), SeccompError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| SeccompError { kind, source };
    let program = compile::compile(&lists::of(kind)).map_err(|error| failed(error.into()))?;
    seccompiler::apply_filter(&program).map_err(|error| failed(error.into()))
}

#[cfg(test)]
mod tests;
