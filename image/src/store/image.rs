//! An image that was found: its configuration and its layers.

use std::path::PathBuf;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest};

use super::layers::{self, Expected};
use super::{Store, StoreError};
use crate::digest::Digest;
use crate::reference::Reference;

/// Most layers that an image may have; overlayfs takes 500.
const MAX_LAYERS: u64 = 500;

/// An image in the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// The name it was found by.
    pub reference: Reference,
    /// What identifies its content.
    pub manifest_digest: Digest,
    /// How it wants to be run.
    pub config: ImageConfiguration,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the compressed blob.
    pub digest: Digest,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// What the manifest calls its form.
    pub media_type: String,
    /// Bytes of the compressed blob.
    pub compressed_size: u64,
    /// The layer as a read-only EROFS image.
    pub erofs: PathBuf,
    /// Bytes of that image, a multiple of 4096.
    pub erofs_size: u64,
}

/// A manifest and its configuration, checked against each other.
pub(super) struct Parsed {
    pub(super) config: ImageConfiguration,
    pub(super) config_digest: Digest,
    pub(super) layers: Vec<(Expected, String)>,
}

impl Store {
    /// The image with this manifest, whatever its name; `reference` is only passed on.
    ///
    /// # Errors
    ///
    /// A manifest that is not here, or content that is damaged.
    pub fn image(&self, reference: Reference, manifest: &Digest) -> Result<Image, StoreError> {
        let parsed = parse(&self.blobs, manifest)?;
        let mut layers = Vec::with_capacity(parsed.layers.len());
        for (expected, media_type) in parsed.layers {
            let erofs = self.layers.erofs(&expected.diff_id);
            if !erofs.exists() {
                // Somebody cleared the layers; the blobs can make them again.
                let _held = self.locks.adding()?;
                self.layers.add_blob(&self.blobs.path(&expected.digest), &expected, &mut |_| {})?;
            }
            let erofs_size = layers::erofs_size(&erofs).map_err(StoreError::io("read", &erofs))?;
            layers.push(Layer {
                digest: expected.digest,
                diff_id: expected.diff_id,
                media_type,
                compressed_size: expected.size,
                erofs,
                erofs_size,
            });
        }
        Ok(Image { reference, manifest_digest: *manifest, config: parsed.config, layers })
    }
}

/// Reads and checks the manifest with digest `manifest`, and its configuration.
pub(super) fn parse(blobs: &super::Blobs, manifest: &Digest) -> Result<Parsed, StoreError> {
    let what = format!("manifest {manifest}");
    let document: ImageManifest = blobs.read_json("manifest", manifest)?;
    let config_digest = digest(&what, document.config())?;
    let config: ImageConfiguration = blobs.read_json("image configuration", &config_digest)?;
    let diff_ids = config.rootfs().diff_ids();
    let count = document.layers().len();
    if count as u64 > MAX_LAYERS {
        return Err(StoreError::TooBig { what, got: count as u64, limit: MAX_LAYERS, unit: "layers" });
    }
    if diff_ids.len() != count {
        let reason = format!("it lists {count} layers, its configuration {}", diff_ids.len());
        return Err(StoreError::malformed(what, reason));
    }
    let mut layers = Vec::with_capacity(count);
    for (descriptor, diff_id) in document.layers().iter().zip(diff_ids) {
        let media_type = descriptor.media_type().to_string();
        if !is_layer(&media_type) {
            let reason = format!("layers of type \"{media_type}\" are not supported");
            return Err(StoreError::malformed(what, reason));
        }
        let diff_id = diff_id
            .parse()
            .map_err(|error| StoreError::malformed(format!("image configuration {config_digest}"), error))?;
        let digest = digest(&what, descriptor)?;
        layers.push((Expected { digest, size: descriptor.size(), diff_id }, media_type));
    }
    Ok(Parsed { config, config_digest, layers })
}

fn digest(what: &str, descriptor: &Descriptor) -> Result<Digest, StoreError> {
    descriptor.digest().to_string().parse().map_err(|error| StoreError::malformed(what, error))
}

/// Tars of OCI and Docker, compressed or not. What else there is — encrypted layers, artifacts — cannot run.
fn is_layer(media_type: &str) -> bool {
    matches!(
        media_type.rsplit_once(['+', '.']).map_or(media_type, |(stem, suffix)| match suffix {
            "gzip" | "zstd" => stem,
            _ => media_type,
        }),
        "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_layers_by_their_media_type() {
        for (media_type, known) in [
            ("application/vnd.oci.image.layer.v1.tar", true),
            ("application/vnd.oci.image.layer.v1.tar+gzip", true),
            ("application/vnd.oci.image.layer.v1.tar+zstd", true),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", true),
            ("application/vnd.oci.image.layer.v1.tar+encrypted", false),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", false),
            ("application/vnd.in-toto+json", false),
            ("", false),
        ] {
            assert_eq!(is_layer(media_type), known, "{media_type}");
        }
    }
}
