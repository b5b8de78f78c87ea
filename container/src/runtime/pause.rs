//! `pause` and `resume`: all processes of a container stand still, and go on.

use super::error::RuntimeError;
use super::record::Record;
use super::state::{self, Status};
use super::store::Entry;

/// Freezes a container that runs, or waits to be started.
pub(super) fn pause(entry: &Entry) -> Result<(), RuntimeError> {
    let _locked = entry.lock()?;
    let record = in_status(entry, "pause", &[Status::Running, Status::Created])?;
    Ok(entry.cgroup(&record)?.freeze()?)
}

/// Thaws one that is paused.
pub(super) fn resume(entry: &Entry) -> Result<(), RuntimeError> {
    let _locked = entry.lock()?;
    let record = in_status(entry, "resume", &[Status::Paused])?;
    Ok(entry.cgroup(&record)?.thaw()?)
}

/// What is written down of a container that is in one of these states.
pub(super) fn in_status(entry: &Entry, verb: &'static str, good: &[Status]) -> Result<Record, RuntimeError> {
    let wrong = |status| RuntimeError::WrongStatus { verb, id: entry.id.clone(), status };
    let Some(record) = entry.record()? else { return Err(wrong(Status::Stopped)) };
    match state::status(entry, &record)? {
        status if good.contains(&status) => Ok(record),
        status => Err(wrong(status)),
    }
}
