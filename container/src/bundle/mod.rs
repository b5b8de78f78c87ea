//! A bundle on disk: a directory with a `config.json` and, usually, the root filesystem it names.
//!
//! `unsupported.rs` holds what this runtime does not honour yet: each such field is refused by name rather than
//! ignored.

mod unknown_capabilities;
mod unsupported;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

pub(crate) use unknown_capabilities::{read_without, warning as unknown_capabilities_warning};
pub(crate) use unsupported::{refuse_unsupported, refuse_unsupported_process};

/// Largest `config.json` that is read, in bytes. Real ones have some 10 to 50 KiB.
const MAX_CONFIG_BYTES: u64 = 4 << 20;
/// Room for one that is not long, so that it is read at once.
const USUAL_CONFIG_BYTES: usize = 16 << 10;

/// A bundle whose `config.json` is read.
#[derive(Debug)]
pub struct Bundle {
    /// The bundle's directory, absolute.
    pub dir: PathBuf,
    /// Its `config.json`.
    pub spec: Spec,
    /// The same, as it was read.
    pub(crate) json: Vec<u8>,
    /// What of it is left out, one sentence each.
    pub(crate) warnings: Vec<String>,
}

/// A bundle that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The directory or its `config.json` cannot be read.
    #[error("cannot read {path}: {source}; a bundle is a directory with a config.json and a root filesystem")]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// Why it could not be.
        source: io::Error,
    },
    /// `config.json` is larger than any sensible one.
    #[error("{path} is larger than {MAX_CONFIG_BYTES} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// `config.json` is not what the OCI runtime specification describes.
    #[error("{path} is not an OCI runtime configuration: {field}: {source}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The field, as a path through the JSON; a dot for the whole.
        field: String,
        /// What is wrong with it, and where in the file.
        source: serde_json::Error,
    },
    /// A field asks for something that is not supported.
    #[error("config.json: {field}: {reason}")]
    Unsupported {
        /// The field, as a path through the JSON.
        field: String,
        /// Why it is refused.
        reason: &'static str,
    },
}

impl Bundle {
    /// Reads the bundle in `dir`.
    ///
    /// # Errors
    /// When `config.json` is missing, too large, malformed, or asks for what is not supported.
    pub fn load(dir: &Path) -> Result<Self, BundleError> {
        let dir = dir.canonicalize().map_err(|source| BundleError::Read { path: dir.into(), source })?;
        let path = dir.join("config.json");
        let mut json = Vec::with_capacity(USUAL_CONFIG_BYTES);
        File::open(&path)
            .and_then(|file| file.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut json))
            .map_err(|source| BundleError::Read { path: path.clone(), source })?;
        if json.len() as u64 > MAX_CONFIG_BYTES {
            return Err(BundleError::TooLarge { path });
        }
        Self::parse(dir, json)
    }

    /// A bundle with this `config.json`.
    pub(crate) fn parse(dir: PathBuf, json: Vec<u8>) -> Result<Self, BundleError> {
        // Lists would be read as well, as the values of fields in their order.
        if !json.trim_ascii_start().starts_with(b"{") {
            return Err(malformed(&dir, &json));
        }
        let (spec, unknown): (Spec, _) =
            read_without(&json, "/process/capabilities").map_err(|_| malformed(&dir, &json))?;
        if !spec.version().starts_with("1.") {
            let reason = "must be there, and a version 1.x of the runtime specification";
            return Err(BundleError::Unsupported { field: "ociVersion".to_owned(), reason });
        }
        refuse_unsupported(&spec)?;
        let warnings = unknown_capabilities_warning(&unknown).into_iter().collect();
        Ok(Self { dir, spec, json, warnings })
    }
}

/// Reads it once more, keeping track of the fields on the way: what no configuration that is right has to pay for.
fn malformed(dir: &Path, json: &[u8]) -> BundleError {
    let path = dir.join("config.json");
    match serde_path_to_error::deserialize::<_, Spec>(&mut serde_json::Deserializer::from_slice(json)) {
        Err(error) => {
            let field = error.path().to_string();
            BundleError::Malformed { path, field, source: error.into_inner() }
        }
        // A list, or something follows its end.
        Ok(_) => {
            let source = serde::de::Error::custom("is not one JSON object");
            BundleError::Malformed { path, field: ".".to_owned(), source }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(json: &str) -> Result<Bundle, BundleError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), json).unwrap();
        Bundle::load(dir.path())
    }

    #[test]
    fn reads_a_default_spec_back() {
        let spec = crate::spec::default_spec();
        let bundle = load(&serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!(bundle.spec, spec);
    }

    #[test]
    fn a_missing_config_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Bundle::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("config.json: No such file"), "{error}");
    }

    #[test]
    fn malformed_json_says_where() {
        for json in ["", "[1]", "{\"process\": 3}", "{\"ociVersion\": \"1.0.2\", \"root\": 7}"] {
            let error = load(json).unwrap_err();
            assert!(matches!(error, BundleError::Malformed { .. }), "{json}: {error}");
        }
    }

    #[test]
    fn a_huge_config_is_not_read_to_its_end() {
        let json =
            format!("{{\"ociVersion\": \"{}\"}}", "x".repeat(usize::try_from(MAX_CONFIG_BYTES).unwrap()));
        assert!(matches!(load(&json), Err(BundleError::TooLarge { .. })));
    }
}
