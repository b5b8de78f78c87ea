//! Capabilities that have no name here: a configuration that lists them is read without them.
//!
//! Callers list what the newest kernels have; what nobody here knows cannot be given, and is no reason not to start.

use oci_spec::runtime::Capability;
use serde::de::DeserializeOwned;
use serde_json::Value;

const SETS: [&str; 5] = ["bounding", "effective", "permitted", "inheritable", "ambient"];

/// Reads a `T` whose capabilities are at the JSON pointer `at`, and returns which of them are unknown.
///
/// # Errors
/// The first reading's, when something else is wrong.
pub(crate) fn read_without<T: DeserializeOwned>(
    json: &[u8],
    at: &str,
) -> Result<(T, Vec<String>), serde_json::Error> {
    let error = match serde_json::from_slice(json) {
        Ok(read) => return Ok((read, Vec::new())),
        Err(error) => error,
    };
    let Ok(mut value) = serde_json::from_slice::<Value>(json) else { return Err(error) };
    let unknown = value.pointer_mut(at).map(take_out).unwrap_or_default();
    match serde_json::from_value(value) {
        Ok(read) if !unknown.is_empty() => Ok((read, unknown)),
        _ => Err(error),
    }
}

/// Takes the unknown ones out of all sets.
fn take_out(capabilities: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    for set in SETS {
        let Some(names) = capabilities.get_mut(set).and_then(Value::as_array_mut) else { continue };
        names.retain(|name| {
            let known = !name.is_string() || serde_json::from_value::<Capability>(name.clone()).is_ok();
            if let (false, Some(name)) = (known, name.as_str()) {
                unknown.push(name.to_owned());
            }
            known
        });
    }
    unknown.sort_unstable();
    unknown.dedup();
    unknown
}

/// What there is to say about capabilities that were left out.
pub(crate) fn warning(unknown: &[String]) -> Option<String> {
    (!unknown.is_empty())
        .then(|| format!("unknown capabilities are left out of process.capabilities: {}", unknown.join(", ")))
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Spec;

    use super::*;

    fn read(sets: &str) -> Result<(Spec, Vec<String>), serde_json::Error> {
        let json = format!(
            r#"{{"ociVersion": "1.0.2", "process": {{"user": {{}}, "cwd": "/", "capabilities": {{{sets}}}}}}}"#
        );
        read_without(json.as_bytes(), "/process/capabilities")
    }

    #[test]
    fn unknown_names_are_left_out_of_every_set() {
        let (spec, unknown) =
            read(r#""bounding": ["CAP_KILL", "CAP_FLY"], "ambient": ["CAP_FLY", "CAP_SWIM"]"#).unwrap();
        assert_eq!(unknown, ["CAP_FLY", "CAP_SWIM"]);
        let sets = spec.process().as_ref().unwrap().capabilities().as_ref().unwrap();
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 1);
        assert!(sets.ambient().as_ref().unwrap().is_empty());
    }

    #[test]
    fn known_names_are_read_once_and_nonsense_stays_an_error() {
        assert!(read(r#""bounding": ["CAP_KILL"]"#).unwrap().1.is_empty());
        for sets in
            [r#""bounding": [7, "CAP_FLY"]"#, r#""bounding": "CAP_FLY""#, r#""bounding": {"CAP_FLY": 1}"#]
        {
            assert!(read(sets).is_err(), "{sets}");
        }
    }
}
