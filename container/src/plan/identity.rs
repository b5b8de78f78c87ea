//! What a container is called, and what others are told of it.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::bundle::Bundle;
use crate::hooks::HookState;

/// The part of a container's state that stays the same for its whole life.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) id: String,
    /// The version of the specification that the configuration is written for.
    pub(crate) oci_version: String,
    bundle: PathBuf,
    annotations: HashMap<String, String>,
}

impl Identity {
    /// Of the container `id` that is made of this bundle.
    pub(super) fn new(id: String, bundle: &Bundle) -> Self {
        Self {
            id,
            oci_version: bundle.spec.version().clone(),
            bundle: bundle.dir.clone(),
            annotations: bundle.spec.annotations().clone().unwrap_or_default(),
        }
    }

    /// What hooks and agents are told of the container: its status, and its first process by the id that they know it by.
    pub(crate) fn state(&self, status: &'static str, pid: i32) -> Vec<u8> {
        let Self { id, bundle, oci_version, annotations } = self;
        HookState { oci_version, id, status, pid: Some(pid), bundle, annotations }.json()
    }
}
