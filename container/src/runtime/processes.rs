//! `ps`: which processes a container has.

use super::error::RuntimeError;
use super::store::Entry;

/// Their ids, sorted; none when it has ended. A container without a cgroup of its own has those that descend from its
/// first one.
pub(super) fn processes(entry: &Entry) -> Result<Vec<i32>, RuntimeError> {
    let Some(record) = entry.record()? else { return Ok(Vec::new()) };
    let cgroup = entry.cgroup(&record)?;
    if cgroup.is_empty() {
        return Ok(record.init.map(|init| init.tree()).unwrap_or_default());
    }
    Ok(cgroup.pids()?)
}
