//! `update`: other limits for a container that exists.

use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value};

use super::error::RuntimeError;
use super::pause::in_status;
use super::state::Status;
use super::store::Entry;
use crate::bundle::BundleError;

/// Lays `change`, in the shape of `linux.resources`, over what the container has, and sets all of it. Device rules take
/// the place of those before if there are any in it.
pub(super) fn update(entry: &Entry, change: Value) -> Result<(), RuntimeError> {
    let locked = entry.lock()?;
    let record = in_status(entry, "update", &[Status::Running, Status::Created, Status::Paused])?;
    let malformed = |field: &'static str| {
        move |source| BundleError::Malformed { path: "config.json".into(), field: field.to_owned(), source }
    };
    let json = entry.config()?.unwrap_or_default();
    let mut config: Map<String, Value> = serde_json::from_slice(&json).map_err(malformed("."))?;
    let devices = change.get("devices").is_some_and(Value::is_array);
    let linux = config.entry("linux").or_insert_with(|| Value::Object(Map::new()));
    let mut resources = linux.get("resources").cloned().unwrap_or_default();
    merge(&mut resources, change);
    let parsed: LinuxResources =
        serde_json::from_value(resources.clone()).map_err(malformed("linux.resources"))?;
    entry.cgroup(&record)?.update(entry.trees().get()?, &parsed, devices)?;
    if let Value::Object(linux) = linux {
        linux.insert("resources".to_owned(), resources);
    }
    locked.write_config(&serde_json::to_vec(&config).map_err(malformed("."))?)
}

/// Objects are merged member by member, everything else is replaced.
fn merge(old: &mut Value, new: Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                merge(old.entry(key).or_insert(Value::Null), value);
            }
        }
        (old, new) => *old = new,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let mut old = json!({"memory": {"limit": 1, "swap": 2}, "devices": [1, 2]});
        merge(&mut old, json!({"memory": {"limit": 3}, "devices": [4], "pids": {"limit": 5}}));
        assert_eq!(old, json!({"memory": {"limit": 3, "swap": 2}, "devices": [4], "pids": {"limit": 5}}));
        let mut nothing = Value::Null;
        merge(&mut nothing, json!({"pids": {"limit": 5}}));
        assert_eq!(nothing, json!({"pids": {"limit": 5}}));
    }
}
