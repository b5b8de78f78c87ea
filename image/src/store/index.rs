//! `index.json` of an OCI image layout: which manifests there are, and their names.
//!
//! The document is kept as it was read, so that fields unknown here pass on unchanged.

use std::path::Path;

use serde_json::{Value, json};

use super::blobs::MAX_DOCUMENT;
use super::{StoreError, files};
use crate::digest::Digest;
use crate::reference::Reference;

/// The standard annotation that names a manifest (image-spec, `annotations.md`).
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// What containerd and Docker put the full name in.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An index, ours or one that is loaded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Index {
    document: Value,
}

/// One manifest that an index lists.
#[derive(Debug, Clone)]
pub(crate) struct IndexEntry {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) media_type: String,
    /// `os/architecture`, if stated.
    pub(crate) platform: Option<String>,
    /// The name that annotations give it, unchecked.
    pub(crate) name: Option<String>,
    /// The descriptor as it was read.
    pub(crate) descriptor: Value,
}

impl Index {
    pub(crate) fn empty() -> Self {
        let media_type = "application/vnd.oci.image.index.v1+json";
        Self { document: json!({"schemaVersion": 2, "mediaType": media_type, "manifests": []}) }
    }

    /// Reads an index file.
    pub(crate) fn read(path: &Path) -> Result<Self, StoreError> {
        Self::parse(&path.display().to_string(), &files::read_bounded(path, MAX_DOCUMENT)?)
    }

    /// Parses an index; `what` names it in errors.
    pub(crate) fn parse(what: &str, data: &[u8]) -> Result<Self, StoreError> {
        let document: Value =
            serde_json::from_slice(data).map_err(|error| StoreError::malformed(what, error))?;
        let index = Self { document };
        if !index.document.get("manifests").is_some_and(Value::is_array) {
            return Err(StoreError::malformed(what, "it has no list of manifests"));
        }
        for descriptor in index.descriptors() {
            entry(descriptor).map_err(|reason| StoreError::malformed(what, reason))?;
        }
        Ok(index)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.document.to_string().into_bytes();
        bytes.push(b'\n');
        bytes
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = IndexEntry> {
        self.descriptors().iter().filter_map(|descriptor| entry(descriptor).ok())
    }

    /// Lists `descriptor` under `reference`, in place of what had that name.
    pub(crate) fn put(&mut self, reference: &Reference, mut descriptor: Value) {
        self.remove(reference);
        if let Some(fields) = descriptor.as_object_mut() {
            let annotations = fields.entry("annotations").or_insert_with(|| json!({}));
            if !annotations.is_object() {
                *annotations = json!({});
            }
            annotations[REF_NAME] = json!(reference.to_string());
            if let Some(annotations) = annotations.as_object_mut() {
                // It would contradict the name given now.
                annotations.remove(CONTAINERD_NAME);
            }
        }
        if let Some(manifests) = self.document["manifests"].as_array_mut() {
            manifests.push(descriptor);
        }
    }

    /// Takes what is listed as `reference` off the list; false if there was nothing.
    pub(crate) fn remove(&mut self, reference: &Reference) -> bool {
        let Some(manifests) = self.document["manifests"].as_array_mut() else { return false };
        let before = manifests.len();
        manifests.retain(|descriptor| {
            let listed = entry(descriptor).ok().and_then(|entry| entry.reference());
            !listed.is_some_and(|listed| listed.same_as(reference))
        });
        manifests.len() != before
    }

    fn descriptors(&self) -> &[Value] {
        self.document["manifests"].as_array().map_or(&[], Vec::as_slice)
    }
}

impl IndexEntry {
    /// The name as a reference, if it is one.
    pub(crate) fn reference(&self) -> Option<Reference> {
        self.name.as_deref()?.parse().ok()
    }
}

fn entry(descriptor: &Value) -> Result<IndexEntry, String> {
    let text = |field: &str| descriptor.get(field).and_then(Value::as_str);
    let digest = text("digest").ok_or("a manifest has no digest")?;
    let annotation = |key: &str| descriptor.get("annotations")?.get(key)?.as_str();
    let platform = descriptor.get("platform").and_then(|platform| {
        let part = |field| platform.get(field).and_then(Value::as_str);
        Some(format!("{}/{}", part("os")?, part("architecture")?))
    });
    Ok(IndexEntry {
        digest: digest.parse().map_err(|error| format!("{error}"))?,
        size: descriptor.get("size").and_then(Value::as_u64).ok_or("a manifest has no size")?,
        media_type: text("mediaType").unwrap_or_default().to_owned(),
        platform,
        name: annotation(CONTAINERD_NAME).or(annotation(REF_NAME)).map(str::to_owned),
        descriptor: descriptor.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(content: &[u8]) -> Value {
        json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": Digest::of(content).to_string(),
            "size": content.len(),
            "x-unknown": [1, 2],
        })
    }

    #[test]
    fn unknown_fields_pass_on_unchanged() {
        let mut index =
            Index::parse("test", br#"{"schemaVersion":2,"manifests":[],"x-future":{"a":1}}"#).unwrap();
        index.put(&"a".parse().unwrap(), descriptor(b"1"));
        let again: Value = serde_json::from_slice(&index.to_bytes()).unwrap();
        assert_eq!(again["x-future"], json!({"a": 1}));
        assert_eq!(again["manifests"][0]["x-unknown"], json!([1, 2]));
    }

    #[test]
    fn a_name_names_one_manifest() {
        let mut index = Index::empty();
        index.put(&"a".parse().unwrap(), descriptor(b"1"));
        index.put(&"docker.io/library/a:latest".parse().unwrap(), descriptor(b"2"));
        index.put(&"b".parse().unwrap(), descriptor(b"1"));
        let names: Vec<_> = index.entries().filter_map(|entry| entry.name).collect();
        assert_eq!(names, ["docker.io/library/a:latest", "b:latest"]);
        assert!(index.remove(&"a:latest".parse().unwrap()));
        assert!(!index.remove(&"a:latest".parse().unwrap()));
    }

    #[test]
    fn malformed_indexes_are_errors() {
        for (data, part) in [
            ("", "EOF"),
            ("[]", "no list of manifests"),
            (r#"{"manifests":{}}"#, "no list of manifests"),
            (r#"{"manifests":[{}]}"#, "no digest"),
            (r#"{"manifests":[{"digest":"sha256:../x","size":1}]}"#, "64 lower-case"),
            (r#"{"manifests":[{"digest":"sha512:00","size":1}]}"#, "only sha256"),
            (&format!(r#"{{"manifests":[{{"digest":"{}","size":-1}}]}}"#, Digest::of(b"")), "no size"),
        ] {
            let error = Index::parse("test", data.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{data}: {error}");
        }
    }
}
