//! Runs one instance of a subject and observes it. [`Executor`] is what the run knows; [`host::Host`] does it for real,
//! by the binary and its JSON, and tests have a scripted one.

mod bundle;
mod calibrate;
mod capture;
mod cpu_time;
mod events;
pub(crate) mod host;
mod http;
mod inspect;
mod instance;
mod leftovers;
mod measure;
mod output;
mod poll;
mod probe;
mod wrapper;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::calibrate::Calibration;
use crate::environment::Environment;
use crate::memory::Memory;
use crate::options::Ready;
use crate::size::Size;
use crate::subject::Subject;

pub(crate) use events::Event;

/// Runs instances.
pub(crate) trait Executor {
    /// The clock that budgets are counted on, in nanoseconds.
    fn now_ns(&self) -> u64;
    /// The host, with what was learnt of it so far.
    fn environment(&mut self) -> Environment;
    /// The host's load averages.
    fn load(&mut self) -> Option<String>;
    /// Makes whatever a subject needs once, and returns the command line that will start it.
    fn prepare(&mut self, subject: &Subject) -> Result<Vec<String>, ExecuteError>;
    /// What the harness itself costs.
    fn calibrate(&mut self) -> Calibration;
    /// Starts one instance, waits until it is ready, measures it, ends it.
    fn sample(&mut self, subject: &Subject) -> Result<Observation, ExecuteError>;
}

/// What was seen of one instance.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observation {
    /// The monotonic clock before the command was executed, in nanoseconds.
    pub spawn_ns: u64,
    /// The same when the first correct reply was complete.
    pub ready_ns: u64,
    /// The reply: a body, or a line.
    pub reply: Vec<u8>,
    /// What the runtime reported until then.
    pub events: Vec<Event>,
    /// Attempts of the HTTP probe.
    pub probe_attempts: Option<u32>,
    /// Memory once ready.
    pub memory: Option<Memory>,
    /// Size once ready.
    pub size: Option<Size>,
    /// The image's digest.
    pub digest: Option<String>,
    /// From the request to stop to the end of the command, in milliseconds.
    pub stop_ms: Option<f64>,
    /// What was still there afterwards.
    pub left_behind: Vec<String>,
}

/// An instance could not be run to the end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecuteError {
    /// A program could not be started.
    #[error("cannot run {program}: {source}; is it installed?")]
    Spawn { program: String, source: io::Error },
    /// A program ended with a failure.
    #[error("`{command}` failed ({status}): {message}")]
    Failed { command: String, status: String, message: String },
    /// A program took too long and was ended.
    #[error("`{command}` did not end within {} s", limit.as_secs())]
    Slow { command: String, limit: Duration },
    /// The command ended before the app was ready.
    #[error("the command ended before the app was ready ({status}): {message}")]
    Ended { status: String, message: String },
    /// The app was not ready in time.
    #[error("not ready ({ready}) within {} s; last seen: {last}. {message}", limit.as_secs())]
    NotReady { ready: Ready, limit: Duration, last: String, message: String },
    /// The command did not end when told to.
    #[error("the command did not end within {} s of being told to, and was killed", limit.as_secs())]
    WouldNotStop { limit: Duration },
    /// A file or descriptor of the harness failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    /// A call of the operating system failed.
    #[error("cannot {doing}: {source}")]
    System { doing: &'static str, source: io::Error },
    /// A program said something that is not the JSON that was agreed.
    #[error("cannot understand what `{command}` says: {source}")]
    Json { command: String, source: serde_json::Error },
}
