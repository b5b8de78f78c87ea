//! `start`: has the program of a container executed that waits for it.

use super::error::RuntimeError;
use super::record::Record;
use super::state::{self, Status};
use super::store::Entry;
use crate::bundle::Bundle;
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
    order_start(&channel, &program(entry, &record)?)?;
    Ok(())
}

/// The program's name, for messages.
fn program(entry: &Entry, record: &Record) -> Result<String, RuntimeError> {
    let Some(json) = entry.config()? else { return Ok(String::new()) };
    let bundle = Bundle::parse(record.bundle.clone(), json)?;
    let args = bundle.spec.process().as_ref().and_then(|process| process.args().as_ref());
    Ok(args.and_then(|args| args.first()).cloned().unwrap_or_default())
}
