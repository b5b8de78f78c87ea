//! What can go wrong with an instance, and the exit code Docker's users expect for it.

use std::{io, path::PathBuf};

/// An error of the engine. Its text says what to do next where the user can do something.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A file or directory of the data root could not be used.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The instance database refused.
    #[error("the instance database at {path} does not answer: {source}")]
    Database {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// No instance has this name or id.
    #[error("no such instance: {0}; `carve ps -a` lists them")]
    NoSuchInstance(String),
    /// Another instance has this name.
    #[error("the name {name} is taken by instance {id}; remove it with `carve rm {name}` or choose another")]
    NameTaken {
        /// The name asked for.
        name: String,
        /// Who has it.
        id: String,
    },
    /// Something the user asked for cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The instance is not in the state that the command needs.
    #[error("instance {name} is {state}: {hint}")]
    State {
        /// The instance.
        name: String,
        /// Its state.
        state: String,
        /// What to do.
        hint: &'static str,
    },
    /// The image store refused.
    #[error(transparent)]
    Image(#[from] image::StoreError),
    /// The network could not be set up.
    #[error("network: {0}")]
    Network(String),
    /// The app could not be run, with the exit code that says so.
    #[error("{message}")]
    Start {
        /// 125, 126 or 127.
        exit_code: i32,
        /// One line for people.
        message: String,
    },
    /// The monitor ended without a word.
    #[error("the monitor of {0} ended unexpectedly; `carve ps -a` shows what is left of the instance")]
    MonitorDied(String),
}

impl EngineError {
    /// The exit code of a command that ends with this error: 125 unless the app itself could not be run.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Start { exit_code, .. } => *exit_code,
            _ => 125,
        }
    }

    /// A file error with its path.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

/// What most functions of the engine answer.
pub(crate) type Result<T, E = EngineError> = std::result::Result<T, E>;
