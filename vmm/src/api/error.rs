//! Why a request is not carried out. Each becomes `{"fault_message": …}` with status 400.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use super::http::Method;
use super::model::ModelError;
use crate::cpu::CpuError;
use crate::machine::{BuildError, DeviceError};
use crate::snapshot::SnapshotError;

/// A request that no machine was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No such thing, or it cannot be done to it.
    #[error("Invalid request method and/or path: {method} {path}.")]
    NoRoute {
        /// What was to be done.
        method: &'static str,
        /// To what.
        path: String,
    },
    /// The path ends where the name of a device is due.
    #[error("The ID cannot be empty.")]
    EmptyId,
    /// A name that none can have.
    #[error("API Resource IDs can only contain alphanumeric characters and underscores.")]
    BadId,
    /// Two names for one device.
    #[error("The id from the path does not match the id from the body!")]
    OtherId,
    /// A question does not come with an answer.
    #[error("GET request cannot have a body.")]
    BodyOfGet,
    /// Nothing is said.
    #[error("Empty {0} request.")]
    NoBody(&'static str),
    /// What is said is not understood.
    #[error("An error occurred when deserializing the json body of a request: {0}.")]
    Json(#[from] serde_json::Error),
    /// What is said makes no sense.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl RequestError {
    pub(crate) fn no_route(method: Method, path: &str) -> Self {
        Self::NoRoute { method: method.name(), path: path.to_owned() }
    }
}

/// A request that the machine, as it is, cannot carry out.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Only before the start.
    #[error("The requested operation is not supported after starting the microVM.")]
    Started,
    /// Only after the start.
    #[error("The requested operation is not supported before starting the microVM.")]
    NotStarted,
    /// A snapshot is a whole machine.
    #[error("Loading a microVM snapshot not allowed after configuring boot-specific resources.")]
    Configured,
    /// A device that the machine does not have.
    #[error("the machine has no {kind} {id:?}")]
    NoDevice {
        /// What kind.
        kind: &'static str,
        /// Its name.
        id: String,
    },
    /// No balloon to ask or change.
    #[error("No balloon device found.")]
    NoBalloon,
    /// A balloon keeps statistics from the start or never.
    #[error("Cannot enable/disable the statistics after boot.")]
    BalloonStatistics,
    /// What was said of the machine.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// It cannot be built.
    #[error("cannot start the machine: {0}")]
    Build(#[from] BuildError),
    /// A device refuses.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Its vCPUs.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// A file for logs or metrics.
    #[error("cannot write to {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Metrics have no place to go.
    #[error("there is no file for metrics; PUT /metrics before the machine starts")]
    NoMetrics,
    /// Logs are somebody else's.
    #[error("{0}")]
    Logs(String),
    /// A jail without files.
    #[error(
        "this machine is in a jail that has no files; start it with --jail-root DIR to have those in DIR, or with --no-jail"
    )]
    NoFiles,
}

impl ApiError {
    /// Whether it is that a file is not there.
    pub(super) fn is_of_a_missing_file(&self) -> bool {
        let causes = std::iter::successors(Some(self as &dyn Error), |error| (*error).source());
        let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        causes.filter_map(|error| error.downcast_ref()).any(is_missing)
    }
}
