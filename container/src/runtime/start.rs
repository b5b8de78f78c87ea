//! `start`: has the program of a container executed that waits for it.

use super::error::RuntimeError;
use super::state::{self, Status};
use super::store::Entry;
use crate::container::order_start;

/// Starts it.
pub(super) fn start(entry: &Entry) -> Result<(), RuntimeError> {
    let _locked = entry.lock()?;
    let wrong = |status| RuntimeError::WrongStatus { verb: "start", id: entry.id.clone(), status };
    let Some(record) = entry.record()? else { return Err(wrong(Status::Stopped)) };
    match state::status(entry, &record)? {
        Status::Created => {}
        status => return Err(wrong(status)),
    }
    let Some(channel) = state::connect_to_init(entry)? else { return Err(wrong(Status::Running)) };
    order_start(&channel, &record.program)?;
    record.run_poststart_hooks();
    Ok(())
}
