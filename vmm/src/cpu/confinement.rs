//! The first thing that a machine's thread does: it confines itself to the system calls of its kind, and whoever started
//! it waits for that.

use std::sync::mpsc::{self, Receiver, SyncSender};

use super::CpuError;
use crate::seccomp::{self, SeccompError, ThreadKind};

/// The new thread's half.
pub(crate) struct Confinement(Option<(ThreadKind, SyncSender<Result<(), SeccompError>>)>);

/// The half of whoever started it.
pub(crate) struct Confined(Option<Receiver<Result<(), SeccompError>>>);

impl Confinement {
    /// For a thread of this kind, if it is to be confined at all.
    pub(crate) fn new(kind: ThreadKind, wanted: bool) -> (Self, Confined) {
        if !wanted {
            return (Self(None), Confined(None));
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        (Self(Some((kind, sender))), Confined(Some(receiver)))
    }

    /// Confines the calling thread; whether it may go on.
    pub(crate) fn begin(self) -> bool {
        let Some((kind, sender)) = self.0 else { return true };
        let result = seccomp::install(kind);
        let is_confined = result.is_ok();
        // Nobody listens any more when another thread has failed.
        let _ = sender.send(result);
        is_confined
    }
}

impl Confined {
    /// Returns when the thread is confined.
    ///
    /// # Errors
    /// It could not be, and does nothing.
    pub(crate) fn wait(self) -> Result<(), CpuError> {
        let Some(receiver) = self.0 else { return Ok(()) };
        let result = receiver.recv().map_err(|_| CpuError::Thread("it ended before it began".into()))?;
        result.map_err(|error| CpuError::Thread(error.to_string()))
    }
}
