//! `load`: takes images from an OCI image layout, in a directory or an archive, into the store.

use std::path::Path;

use serde_json::Value;

use super::archive::Source;
use super::blobs::Blobs;
use super::image;
use super::index::{Index, IndexEntry};
use super::{Image, Store, StoreError};
use crate::progress::ProgressFn;
use crate::reference::Reference;

/// How deep indexes may point to indexes.
const MAX_NESTING: u32 = 4;

impl Store {
    /// Loads what `source` holds: an OCI image layout directory, or a tar of one (plain, gzip or zstd; what
    /// `docker save` of Docker 25 and later, `podman save --format oci-archive` and `skopeo copy` write).
    /// With `name`, the one image there is, or the one so called, gets that name; without, all images are
    /// loaded under their own names. Of an image for several platforms, this machine's is taken.
    ///
    /// # Errors
    ///
    /// Anything that breaks the specification, content that does not match its digest, and failures to read
    /// or write. Images that were loaded before the error stay.
    pub fn load(
        &self,
        source: &Path,
        name: Option<&Reference>,
        progress: ProgressFn<'_>,
    ) -> Result<Vec<Image>, StoreError> {
        let _held = self.start_adding()?;
        let opened = Source::open(source, &self.layers.temporary, self.layers.limits.tar_bytes, progress)?;
        let index = Index::read(&opened.layout.join("index.json"))?;
        let blobs = Blobs::of_layout(&opened.layout);
        let mut images = Vec::new();
        for (reference, entry) in choose(source, &index, name)? {
            let mut manifest = for_this_platform(&blobs, entry.clone())?;
            merge_annotations(&mut manifest.descriptor, &entry.descriptor);
            self.load_manifest(&blobs, &manifest, progress)?;
            self.change_index(|index| index.put(&reference, manifest.descriptor))?;
            images.push(self.image(reference, &manifest.digest)?);
        }
        Ok(images)
    }

    /// Takes over one manifest and what it refers to; the manifest last.
    fn load_manifest(
        &self,
        from: &Blobs,
        manifest: &IndexEntry,
        progress: ProgressFn<'_>,
    ) -> Result<(), StoreError> {
        let got = from.read("manifest", &manifest.digest)?.len() as u64;
        if got != manifest.size {
            let what = format!("manifest {}", manifest.digest);
            return Err(StoreError::Size { what, expected: manifest.size, got });
        }
        let parsed = image::parse(from, &manifest.digest)?;
        for (expected, _) in &parsed.layers {
            self.layers.add_blob(&from.path(&expected.digest), expected, progress)?;
        }
        let documents = [("image configuration", &parsed.config_digest), ("manifest", &manifest.digest)];
        for (what, digest) in documents {
            self.blobs.put(&self.layers.temporary, &from.read(what, digest)?)?;
        }
        Ok(())
    }
}

/// Which of the listed images to load, and under what name.
fn choose(
    source: &Path,
    index: &Index,
    name: Option<&Reference>,
) -> Result<Vec<(Reference, IndexEntry)>, StoreError> {
    let entries: Vec<IndexEntry> = index.entries().collect();
    if entries.is_empty() {
        return Err(StoreError::malformed(source.display().to_string(), "it holds no image"));
    }
    let Some(name) = name else {
        let unnamed = || StoreError::Unnamed { path: source.to_owned() };
        let named = |entry: IndexEntry| Ok((own_name(&entry).ok_or_else(unnamed)?, entry));
        return entries.into_iter().map(named).collect();
    };
    // The reference under which it is stored has no digest: the content says that itself.
    let stored = name.without_digest().unwrap_or_else(|| name.clone());
    if let [entry] = entries.as_slice() {
        return Ok(vec![(stored, entry.clone())]);
    }
    match entries.iter().find(|entry| own_name(entry).is_some_and(|own| own.same_as(name))) {
        Some(entry) => Ok(vec![(stored, entry.clone())]),
        None => Err(StoreError::Several {
            path: source.to_owned(),
            name: Box::new(name.clone()),
            names: entries.iter().map(|e| e.name.clone().unwrap_or_else(|| e.digest.to_string())).collect(),
        }),
    }
}

/// The name that annotations give. A bare version (`1.2`, `latest`) is a tag that lacks its name.
fn own_name(entry: &IndexEntry) -> Option<Reference> {
    let name = entry.name.as_deref()?;
    let is_bare = !name.contains(['/', ':']);
    let is_version = name == "latest" || name.starts_with(|c: char| c.is_ascii_digit());
    if is_bare && is_version { None } else { entry.reference() }
}

/// Follows indexes down to the manifest for the machine this runs on.
fn for_this_platform(blobs: &Blobs, mut entry: IndexEntry) -> Result<IndexEntry, StoreError> {
    for _ in 0..MAX_NESTING {
        let is_index = matches!(
            entry.media_type.as_str(),
            "application/vnd.oci.image.index.v1+json"
                | "application/vnd.docker.distribution.manifest.list.v2+json"
        );
        if !is_index {
            return Ok(entry);
        }
        let what = format!("index {}", entry.digest);
        let index = Index::parse(&what, &blobs.read("index", &entry.digest)?)?;
        let wanted = format!("linux/{}", super::import::architecture());
        let listed: Vec<IndexEntry> = index.entries().collect();
        let found = listed.iter().find(|listed| listed.platform.as_ref() == Some(&wanted));
        // A single manifest that states no platform is for whoever has it.
        let only = listed.first().filter(|only| listed.len() == 1 && only.platform.is_none());
        entry = found.or(only).cloned().ok_or_else(|| StoreError::NoPlatform {
            what,
            wanted,
            found: listed.iter().filter_map(|listed| listed.platform.clone()).collect(),
        })?;
    }
    Err(StoreError::malformed(format!("index {}", entry.digest), "indexes are nested too deep"))
}

/// Keeps what the outer descriptor of an index says about the image.
fn merge_annotations(descriptor: &mut Value, outer: &Value) {
    let Some(outer) = outer.get("annotations").and_then(Value::as_object) else { return };
    let Some(fields) = descriptor.as_object_mut() else { return };
    let annotations = fields.entry("annotations").or_insert_with(|| Value::Object(serde_json::Map::new()));
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.extend(outer.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
}
