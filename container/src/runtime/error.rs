//! What can go wrong with a container that has a name.

use std::io;
use std::path::{Path, PathBuf};

use super::state::Status;
use crate::bundle::BundleError;
use crate::cgroup::CgroupError;
use crate::console::ConsoleError;
use crate::container::StartError;
use crate::create::CreateError;
use crate::exec::ExecError;
use crate::plan::PlanError;

/// A command that could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No container has this id.
    #[error("container {id:?} does not exist")]
    NotFound {
        /// The id.
        id: String,
    },
    /// A container has this id already.
    #[error("container {id:?} exists already; delete it, or choose another id")]
    Exists {
        /// The id.
        id: String,
    },
    /// The container is in another state than the command needs.
    #[error("cannot {verb} container {id:?}: it is {status}")]
    WrongStatus {
        /// The command.
        verb: &'static str,
        /// The id.
        id: String,
        /// The state that it is in.
        status: Status,
    },
    /// A signal is sent to a container that has ended.
    #[error("container not running: {id:?} has ended")]
    NotRunning {
        /// The id.
        id: String,
    },
    /// Another command has held the container's lock for too long.
    #[error(
        "another command has been working on container {id:?} for more than {seconds} s; try again, or end it"
    )]
    Busy {
        /// The id.
        id: String,
        /// How long this one waited.
        seconds: u64,
    },
    /// A word that names no signal.
    #[error("{name:?} is no signal; give a number, or a name like TERM or SIGTERM")]
    UnknownSignal {
        /// The word.
        name: String,
    },
    /// A word that names no capability.
    #[error("{name:?} is no capability; give a name like CAP_NET_RAW")]
    UnknownCapability {
        /// The word.
        name: String,
    },
    /// A file of the state directory, or of the kernel's about the container.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The bundle cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The configuration cannot be carried out.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The container cannot be created.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// A program's terminal goes nowhere.
    #[error(transparent)]
    Console(#[from] ConsoleError),
    /// Nothing can be executed in it.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// Its program cannot be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its cgroup cannot be used.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

impl RuntimeError {
    pub(super) fn file(path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::File { path: path.as_ref().to_owned(), source: source.into() }
    }
}
