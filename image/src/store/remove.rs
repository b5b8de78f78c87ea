//! `remove`: takes a name off the list, then deletes what nothing refers to any more.

use std::collections::HashSet;
use std::path::Path;

use super::index::Index;
use super::{Store, StoreError, image};
use crate::digest::Digest;
use crate::reference::Reference;

impl Store {
    /// Removes the image `reference`, and all blobs and layers that neither another image nor one of `in_use`
    /// (manifest digests of images that instances still run on) refers to.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchImage`], and failures to read or write.
    pub fn remove(&self, reference: &Reference, in_use: &[Digest]) -> Result<(), StoreError> {
        let found = self.resolve_name(reference)?;
        self.change_index(|index| index.remove(&found))?;
        self.collect_garbage(in_use)
    }

    /// Deletes all blobs and layers that neither an image nor one of `in_use` refers to.
    ///
    /// # Errors
    ///
    /// Failures to read or write. An image whose content is damaged stops the collection, since what it
    /// refers to is not known; its name can still be removed.
    pub fn collect_garbage(&self, in_use: &[Digest]) -> Result<(), StoreError> {
        let _held = self.locks.removing()?;
        self.clear_temporary_files();
        let index = Index::read(&self.index_path())?;
        let mut blobs = HashSet::new();
        let mut layers = HashSet::new();
        let listed = index.entries().map(|entry| entry.digest);
        let used = in_use.iter().copied().filter(|digest| self.blobs.path(digest).exists());
        for manifest in listed.chain(used) {
            let parsed = image::parse(&self.blobs, &manifest)?;
            blobs.extend([manifest.hex(), parsed.config_digest.hex()]);
            for (layer, _) in &parsed.layers {
                blobs.insert(layer.digest.hex());
                layers.insert(format!("{}.erofs", layer.diff_id.hex()));
            }
        }
        delete_all_but(self.blobs.directory(), &blobs)?;
        delete_all_but(&self.layers.directory, &layers)
    }

    /// The listed name that `reference` means. Unlike resolving, this works for a damaged image too.
    fn resolve_name(&self, reference: &Reference) -> Result<Reference, StoreError> {
        let listed = self.list()?;
        let matches = |name: &Reference| {
            if reference.tag().is_none() { reference.same_repository(name) } else { reference.same_as(name) }
        };
        let digest_matches = |digest: &Digest| reference.digest().is_none_or(|wanted| wanted == digest);
        let found = listed.iter().find(|l| matches(&l.reference) && digest_matches(&l.manifest_digest));
        found.map(|found| found.reference.clone()).ok_or_else(|| StoreError::NoSuchImage {
            reference: Box::new(reference.clone()),
            known: listed.iter().map(|listed| listed.reference.clone()).collect(),
        })
    }
}

fn delete_all_but(directory: &Path, keep: &HashSet<String>) -> Result<(), StoreError> {
    let entries = std::fs::read_dir(directory).map_err(StoreError::io("list", directory))?;
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", directory))?;
        let kept = entry.file_name().to_str().is_some_and(|name| keep.contains(name));
        if !kept {
            let path = entry.path();
            std::fs::remove_file(&path).map_err(StoreError::io("delete", &path))?;
        }
    }
    Ok(())
}
