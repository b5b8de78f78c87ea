//! What can go wrong with the store, told so that the reader knows what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::erofs::LayerError;
use crate::reference::Reference;

/// Why the store cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No image of that name.
    #[error(
        "no image \"{reference}\" here{}; get one with `carve image load FILE` or `carve image import \
         LAYER.tar`",
        known_names(.known)
    )]
    NoSuchImage {
        /// What was asked for.
        reference: Box<Reference>,
        /// What there is.
        known: Vec<Reference>,
    },
    /// A file cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Content that is not what its digest says.
    #[error("{what} is damaged or forged: expected {expected}, got {got}")]
    Digest {
        /// What was checked.
        what: String,
        /// The digest it must have.
        expected: Digest,
        /// The digest it has.
        got: Digest,
    },
    /// Content that is longer or shorter than its descriptor says.
    #[error("{what} is damaged: expected {expected} bytes, got {got}")]
    Size {
        /// What was checked.
        what: String,
        /// The size it must have.
        expected: u64,
        /// The size it has; for what is longer, the point where reading stopped.
        got: u64,
    },
    /// More than is accepted.
    #[error("{what} has {got} {unit}; at most {limit} are accepted")]
    TooBig {
        /// What was checked.
        what: String,
        /// How much it has.
        got: u64,
        /// How much it may have.
        limit: u64,
        /// Of what.
        unit: &'static str,
    },
    /// JSON, or a layout, that breaks the OCI image specification.
    #[error("{what} is not valid: {reason}")]
    Malformed {
        /// What was read.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer that cannot be converted.
    #[error("layer {layer}: {source}")]
    Layer {
        /// Its digest or file name.
        layer: String,
        /// Why.
        source: LayerError,
    },
    /// Neither an OCI layout nor an archive of one.
    #[error("{} is not an OCI image layout: {reason}", path.display())]
    NotALayout {
        /// What was to be loaded.
        path: PathBuf,
        /// What is missing.
        reason: &'static str,
    },
    /// An image without a name of its own.
    #[error("{} does not say what its image is called; give it a name", path.display())]
    Unnamed {
        /// What was to be loaded.
        path: PathBuf,
    },
    /// Several images where one was meant.
    #[error("{} holds several images and none is called \"{name}\"; it has {}", path.display(), names.join(", "))]
    Several {
        /// What was to be loaded.
        path: PathBuf,
        /// The name given.
        name: Box<Reference>,
        /// The names there are.
        names: Vec<String>,
    },
    /// No manifest for this machine.
    #[error("{what} has no image for {wanted}; it has {}", found.join(", "))]
    NoPlatform {
        /// The index that was read.
        what: String,
        /// This machine's platform.
        wanted: String,
        /// The platforms there are.
        found: Vec<String>,
    },
}

impl StoreError {
    /// For `map_err`: an input or output error, with what was tried on which path.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.as_ref().to_owned(), source }
    }

    pub(crate) fn malformed(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Malformed { what: what.into(), reason: reason.to_string() }
    }
}

fn known_names(known: &[Reference]) -> String {
    match known {
        [] => " (there are none yet)".to_owned(),
        some => {
            let names: Vec<_> = some.iter().take(10).map(ToString::to_string).collect();
            let more = if some.len() > 10 { ", …" } else { "" };
            format!(" (there are {}{more})", names.join(", "))
        }
    }
}
