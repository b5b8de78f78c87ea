//! One EROFS image per layer, written straight from the layer's tar stream.
//!
//! [`write_layer`] reads entries, sends file data to the output as it comes and keeps the metadata as a
//! [`tree`]; [`layout`] then gives every inode its place and [`write`] appends the metadata and the
//! superblock. Nothing is unpacked on disk, no privilege is needed, and the same tar gives the same bytes.
//! [`read`] reads such images back.
//!
//! ```text
//!  block 0      | 1 …                          | …                    | meta_block …               |
//!  superblock   | full blocks of file data, in | directories and long | inodes, each followed by   |
//!  at byte 1024 | the order of the archive     | symlinks             | its xattrs and short data  |
//! ```
//!
//! The on-disk format is that of Linux's `fs/erofs/erofs_fs.h`: uncompressed, 4 KiB blocks, extended inodes,
//! flat plain or flat inline data. No feature newer than Linux 5.4 is used.

mod checksum;
mod data;
mod directory;
mod format;
mod from_tar;
mod layout;
pub(crate) mod read;

mod tree;
mod write;
pub(crate) mod xattr;

pub use from_tar::{LayerSummary, write_layer};

use crate::tar_stream::TarError;

/// What a layer may hold at most; beyond it the layer is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the uncompressed tar stream.
    pub tar_bytes: u64,
    /// Files, directories and everything else with an inode.
    pub inodes: u32,
    /// Bytes of names, link targets and extended attributes, which are held in memory.
    pub metadata_bytes: u64,
}

impl Default for Limits {
    /// Well above any image seen in the wild, well below what fills a host: 64 GiB, 4 million inodes, 512 MiB.
    fn default() -> Self {
        Self { tar_bytes: 64 << 30, inodes: 4_000_000, metadata_bytes: 512 << 20 }
    }
}

/// Why a layer cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The archive is broken.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The output cannot be written.
    #[error("cannot write the layer's filesystem image: {0}")]
    Write(#[source] std::io::Error),
    /// A path that must not be in a layer.
    #[error("path \"{path}\" {reason}")]
    Path {
        /// The path as it is in the archive.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An entry whose metadata cannot be stored.
    #[error("\"{path}\": {reason}")]
    Entry {
        /// The path as it is in the archive.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A hard link to something that is not in the same layer.
    #[error("hard link \"{path}\" points to \"{target}\", which does not precede it in the layer")]
    HardLink {
        /// The link.
        path: String,
        /// What it points to.
        target: String,
    },
    /// More than [`Limits`] allow.
    #[error("the layer has more than {limit} {what}; refusing it")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// The limit that was passed.
        limit: u64,
    },
}

#[cfg(test)]
mod tests;
