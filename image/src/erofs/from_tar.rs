//! From a layer's tar stream to its EROFS image: entries become a tree, file data goes straight to the output.
//!
//! Whiteouts are translated from OCI's form (`.wh.NAME`, `.wh..wh..opq`; image-spec, `layer.md`) to
//! overlayfs's (a 0/0 character device, the `trusted.overlay.opaque` attribute).

use std::fs::File;
use std::io::Read;

use super::data::BlockWriter;
use super::format::{BLOCK, INODE_SIZE, encode_device};
use super::tree::{Attributes, FileData, Node, Place, Tree, path_error, shown};
use super::{LayerError, Limits, write, xattr};
use crate::tar_stream::{Entry, EntryKind, TarStream};

/// Short data kept in memory to follow its inode, in bytes; beyond it, data is padded to whole blocks.
const TAIL_BUDGET: u64 = 64 << 20;
/// The longest target of a symbolic link (`PATH_MAX` with its NUL).
const MAX_LINK_TARGET: usize = 4095;
const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// AUFS's own files begin so; only the opaque mark means something to others.
const AUFS_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE_MARK: &[u8] = b".wh..wh..opq";

/// What a layer's image holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerSummary {
    /// Length of the EROFS image in bytes, a multiple of 4096.
    pub bytes: u64,
    /// Files, directories and other nodes in it.
    pub inodes: u64,
}

/// Writes the layer in `tar` (uncompressed) to `output`, which is emptied first. The same tar gives the same
/// bytes. Reads `tar` up to the archive's end mark only; the caller enforces [`Limits::tar_bytes`].
///
/// # Errors
///
/// A broken or unsupported archive, paths that leave the layer, more than `limits` allow, and failures to
/// read or write.
pub fn write_layer(tar: impl Read, output: &mut File, limits: Limits) -> Result<LayerSummary, LayerError> {
    let mut converter = Converter {
        tar: TarStream::new(tar),
        tree: Tree::new(limits),
        data: BlockWriter::new(output).map_err(LayerError::Write)?,
        tail_budget: TAIL_BUDGET,
    };
    while let Some(entry) = converter.tar.next_entry()? {
        converter.add(entry)?;
    }
    write::finish(&converter.tree, converter.data)
}

struct Converter<'a, R> {
    tar: TarStream<R>,
    tree: Tree,
    data: BlockWriter<'a>,
    tail_budget: u64,
}

impl<R: Read> Converter<'_, R> {
    fn add(&mut self, mut entry: Entry) -> Result<(), LayerError> {
        if is_aufs_metadata(&entry.path) {
            return Ok(());
        }
        let place = self.tree.place(&entry.path)?;
        if let Some(hidden) = place.name.strip_prefix(WHITEOUT_PREFIX) {
            return self.add_whiteout(&place, hidden, &entry.path);
        }
        let entry_error = |reason| LayerError::Entry { path: shown(&entry.path), reason };
        entry.xattrs = xattr::allowed(std::mem::take(&mut entry.xattrs));
        let encoded = xattr::encode(&entry.xattrs)
            .ok_or_else(|| entry_error("its extended attributes are larger than 128 KiB"))?;
        let node = match entry.kind {
            EntryKind::HardLink => return self.add_hard_link(&place, &entry),
            EntryKind::Directory => Node::empty_directory(),
            EntryKind::File => Node::File(self.store_data(entry.size, encoded.len() as u64)?),
            EntryKind::Symlink if entry.link.is_empty() || entry.link.len() > MAX_LINK_TARGET => {
                return Err(entry_error("the target of a symbolic link must have 1 to 4095 bytes"));
            }
            EntryKind::Symlink => Node::Symlink(entry.link.clone().into_boxed_slice()),
            EntryKind::Fifo => Node::Fifo,
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                let device = encode_device(entry.device)
                    .ok_or_else(|| entry_error("its device number is larger than Linux allows"))?;
                if entry.kind == EntryKind::CharDevice {
                    Node::CharDevice(device)
                } else {
                    Node::BlockDevice(device)
                }
            }
        };
        self.tree.put(&place, attributes(entry), node)?;
        Ok(())
    }

    fn add_whiteout(&mut self, place: &Place, hidden: &[u8], path: &[u8]) -> Result<(), LayerError> {
        if place.name == OPAQUE_MARK {
            self.tree.make_opaque(place.directory);
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(path_error(path, "is a whiteout of nothing"));
        }
        let place = Place { directory: place.directory, name: hidden.to_vec() };
        self.tree.put(&place, Attributes::default(), Node::Whiteout)?;
        Ok(())
    }

    fn add_hard_link(&mut self, place: &Place, entry: &Entry) -> Result<(), LayerError> {
        let dangling = || LayerError::HardLink { path: shown(&entry.path), target: shown(&entry.link) };
        let target_place = self.tree.place(&entry.link)?;
        let target = self.tree.lookup(&target_place).ok_or_else(dangling)?;
        if place.name.is_empty() || self.tree.lookup(place) == Some(target) {
            return if place.name.is_empty() { Err(dangling()) } else { Ok(()) };
        }
        match self.tree.inode(target).node {
            Node::Directory { .. } | Node::Whiteout => Err(dangling()),
            _ => self.tree.name(place, target),
        }
    }

    /// Streams the current entry's data to the output, but for a tail that will follow the inode.
    fn store_data(&mut self, size: u64, xattr_bytes: u64) -> Result<FileData, LayerError> {
        let first_block = self.data.next_block().map_err(LayerError::Write)?;
        let tail = size % BLOCK;
        let keep_tail = INODE_SIZE + xattr_bytes + tail <= BLOCK && tail <= self.tail_budget;
        let mut to_stream = if keep_tail { size - tail } else { size };
        let mut buffer = vec![0; usize::try_from(size.clamp(1, 64 << 10)).unwrap_or(1)];
        while to_stream > 0 {
            let wanted = buffer.len().min(usize::try_from(to_stream).unwrap_or(usize::MAX));
            self.fill(&mut buffer[..wanted])?;
            self.data.write(&buffer[..wanted]).map_err(LayerError::Write)?;
            to_stream -= wanted as u64;
        }
        self.data.pad().map_err(LayerError::Write)?;
        let mut kept = Vec::new();
        if keep_tail {
            self.tail_budget -= tail;
            kept.resize(usize::try_from(tail).unwrap_or(0), 0);
            self.fill(&mut kept)?;
        }
        Ok(FileData { size, first_block, tail: kept.into_boxed_slice() })
    }

    /// Fills `buffer` from the current entry; whole, so that runs of zeros are seen as such.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), LayerError> {
        let mut filled = 0;
        while filled < buffer.len() {
            // The entry holds what its header says, or the stream reports that it is cut.
            filled += self.tar.read_data(&mut buffer[filled..])?;
        }
        Ok(())
    }
}

fn attributes(entry: Entry) -> Attributes {
    let xattrs = (!entry.xattrs.is_empty()).then(|| Box::new(entry.xattrs));
    Attributes { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime, xattrs }
}

fn is_aufs_metadata(path: &[u8]) -> bool {
    path.split(|&b| b == b'/').any(|name| name.starts_with(AUFS_PREFIX) && name != OPAQUE_MARK)
}
