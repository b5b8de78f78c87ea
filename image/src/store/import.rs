//! `import`: makes an image of plain filesystem tars, one layer each.

use std::path::PathBuf;

use oci_spec::image::{HistoryBuilder, ImageConfiguration, ImageConfigurationBuilder, RootFsBuilder};
use serde_json::{Value, json};

use super::layers::Expected;
use super::{Image, Store, StoreError};
use crate::change::{self, Change};
use crate::progress::ProgressFn;
use crate::reference::Reference;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

impl Store {
    /// Makes the image `reference` of `layer_tars`, the lowest layer first, each a tar that may be
    /// compressed. `changes` set its configuration. The same input gives the same image, digest and all: no
    /// time and no host name goes into it.
    ///
    /// # Errors
    ///
    /// A tar that cannot be a layer, and failures to read or write.
    pub fn import(
        &self,
        layer_tars: &[PathBuf],
        changes: &[Change],
        reference: &Reference,
        progress: ProgressFn<'_>,
    ) -> Result<Image, StoreError> {
        if layer_tars.is_empty() {
            return Err(StoreError::malformed("the import", "it needs at least one layer tar"));
        }
        let _held = self.start_adding()?;
        let mut layers = Vec::with_capacity(layer_tars.len());
        for tar in layer_tars {
            layers.push(self.layers.add_tar(tar, progress)?);
        }
        let temporary = &self.layers.temporary;
        let config = canonical(&json_of(&configuration(layer_tars, &layers, changes)?)?);
        let config_digest = self.blobs.put(temporary, &config)?;
        let descriptor = |media_type: &str, digest: String, size: u64| json!({"mediaType": media_type, "digest": digest, "size": size});
        let manifest = canonical(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, config_digest.to_string(), config.len() as u64),
            "layers": layers.iter().map(|l| descriptor(LAYER, l.digest.to_string(), l.size)).collect::<Vec<_>>(),
        }));
        let manifest_digest = self.blobs.put(temporary, &manifest)?;
        let name = reference.without_digest().unwrap_or_else(|| reference.clone());
        let listed = descriptor(MANIFEST, manifest_digest.to_string(), manifest.len() as u64);
        self.change_index(|index| index.put(&name, listed))?;
        self.image(name, &manifest_digest)
    }
}

fn configuration(
    tars: &[PathBuf],
    layers: &[Expected],
    changes: &[Change],
) -> Result<ImageConfiguration, StoreError> {
    let bad = |error| StoreError::malformed("the image configuration", error);
    let mut history = Vec::with_capacity(tars.len());
    for tar in tars {
        let name = tar.file_name().unwrap_or_default().to_string_lossy();
        let created_by = format!("carve image import {name}");
        history.push(HistoryBuilder::default().created_by(created_by).build().map_err(bad)?);
    }
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    let rootfs = RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build().map_err(bad)?;
    ImageConfigurationBuilder::default()
        .architecture(architecture())
        .os("linux")
        .config(change::config(changes))
        .rootfs(rootfs)
        .history(history)
        .build()
        .map_err(bad)
}

fn json_of(config: &ImageConfiguration) -> Result<Value, StoreError> {
    serde_json::to_value(config).map_err(|error| StoreError::malformed("the image configuration", error))
}

/// JSON with sorted keys, so that hash maps in it do not change the digest.
fn canonical(document: &Value) -> Vec<u8> {
    let mut document = document.clone();
    document.sort_all_objects();
    document.to_string().into_bytes()
}

/// This machine's architecture in OCI's words, which are Go's.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}
