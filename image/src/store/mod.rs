//! The store of images: a standard OCI image layout, and one EROFS image per layer beside it.
//!
//! ```text
//!  ROOT/images/oci-layout, index.json, blobs/sha256/…   other tools can read this (`oci:ROOT/images:NAME`)
//!  ROOT/layers/sha256/<diff-id>.erofs                   what containers mount and machines get as disks
//!  ROOT/images.tmp/                                     files being written
//! ```
//!
//! One file a verb: [`load`](Store::load), [`import`](Store::import), [`remove`](Store::remove). Every file
//! appears whole or not at all, so a crash leaves at most temporary files, which the next change removes.

mod archive;
mod blobs;
mod error;
mod files;
mod image;
mod import;
mod index;
mod layers;
mod load;
mod locks;
mod remove;

use std::path::{Path, PathBuf};

pub use self::error::StoreError;
pub use self::image::{Image, Layer};

use self::blobs::Blobs;
use self::index::Index;
use self::layers::Layers;
use self::locks::{Held, Locks};
use crate::digest::Digest;
use crate::erofs::Limits;
use crate::reference::Reference;

/// A store of images below a directory.
#[derive(Debug, Clone)]
pub struct Store {
    layout: PathBuf,
    blobs: Blobs,
    layers: Layers,
    locks: Locks,
}

/// One line of a list of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The image's name.
    pub reference: Reference,
    /// What identifies its content.
    pub manifest_digest: Digest,
}

impl Store {
    /// Opens the store below `root`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// Directories that cannot be made, or an `index.json` that is damaged.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let layout = root.join("images");
        let blobs = Blobs::of_layout(&layout);
        let layers = Layers {
            directory: root.join("layers/sha256"),
            temporary: root.join("images.tmp"),
            blobs: blobs.clone(),
            limits: Limits::default(),
        };
        for directory in [blobs.directory(), &layers.directory, &layers.temporary] {
            std::fs::create_dir_all(directory).map_err(StoreError::io("create", directory))?;
        }
        let store = Self { layout, blobs, layers, locks: Locks::new(root) };
        store.initialise()?;
        Ok(store)
    }

    /// The same store with other limits for the layers that are added.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.layers.limits = limits;
        self
    }

    /// The image called `reference`. Docker's short and full names find each other (`nginx`,
    /// `docker.io/library/nginx`), the name as written first.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchImage`], or content that is damaged.
    pub fn resolve(&self, reference: &Reference) -> Result<Image, StoreError> {
        let listed = self.list()?;
        let matches = |listed: &&Listed, exactly: bool| {
            let name = if reference.tag().is_none() {
                reference.same_repository(&listed.reference)
            } else if exactly {
                reference.without_digest().as_ref() == Some(&listed.reference)
            } else {
                reference.same_as(&listed.reference)
            };
            name && reference.digest().is_none_or(|digest| *digest == listed.manifest_digest)
        };
        let found = listed.iter().find(|listed| matches(listed, true));
        match found.or_else(|| listed.iter().find(|listed| matches(listed, false))) {
            Some(found) => self.image(found.reference.clone(), &found.manifest_digest),
            None => Err(StoreError::NoSuchImage {
                reference: Box::new(reference.clone()),
                known: listed.into_iter().map(|listed| listed.reference).collect(),
            }),
        }
    }

    /// All images that have a name, in the order they were added.
    ///
    /// # Errors
    ///
    /// An `index.json` that cannot be read or is damaged.
    pub fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let index = Index::read(&self.index_path())?;
        let listed = index.entries().filter_map(|entry| {
            Some(Listed { reference: entry.reference()?, manifest_digest: entry.digest })
        });
        Ok(listed.collect())
    }

    fn index_path(&self) -> PathBuf {
        self.layout.join("index.json")
    }

    /// Writes the two files that make a directory an OCI image layout, if they are missing.
    fn initialise(&self) -> Result<(), StoreError> {
        let marker = self.layout.join("oci-layout");
        if marker.exists() && self.index_path().exists() {
            return Ok(());
        }
        let _held = self.locks.index()?;
        let temporary = &self.layers.temporary;
        if !self.index_path().exists() {
            files::write_whole(temporary, &self.index_path(), &Index::empty().to_bytes(), 0o644)?;
        }
        if !marker.exists() {
            files::write_whole(temporary, &marker, b"{\"imageLayoutVersion\":\"1.0.0\"}\n", 0o644)?;
        }
        Ok(())
    }

    /// Changes `index.json` under its lock.
    fn change_index<T>(&self, change: impl FnOnce(&mut Index) -> T) -> Result<T, StoreError> {
        let _held = self.locks.index()?;
        let mut index = Index::read(&self.index_path())?;
        let before = index.clone();
        let result = change(&mut index);
        if index != before {
            files::write_whole(&self.layers.temporary, &self.index_path(), &index.to_bytes(), 0o644)?;
        }
        Ok(result)
    }

    /// To be held while content is added. Clears what a crash left before.
    fn start_adding(&self) -> Result<Held, StoreError> {
        if let Some(_held) = self.locks.removing_if_idle() {
            self.clear_temporary_files();
        }
        self.locks.adding()
    }

    /// Only while nobody adds content: what is there then was left by a process that died.
    fn clear_temporary_files(&self) {
        for entry in std::fs::read_dir(&self.layers.temporary).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed =
                if is_directory { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            if let Err(error) = removed {
                tracing::warn!("cannot remove the left-over {}: {error}", path.display());
            }
        }
    }
}

#[cfg(test)]
mod tests;
