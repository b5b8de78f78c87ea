//! Reads EROFS images that [`super::write_layer`] wrote: to unpack them where they cannot be mounted.
//!
//! Images are our own files, but a disk may rot: offsets are checked, never trusted.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::format::{
    BLOCK, DIRENT_SIZE, DataLayout, INODE_SIZE, Inode, MAGIC, SLOT, SUPER_OFFSET, decode_device, file_type,
    u16_at, u32_at, u64_at,
};
use super::xattr::{self, Xattrs};

/// The largest directory or symbolic link that is read into memory, in bytes.
const MAX_IN_MEMORY: u64 = 1 << 30;

/// An EROFS image that is open for reading.
pub(crate) struct Image {
    file: File,
    meta_start: u64,
    root: u64,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Directory,
    File,
    Symlink,
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
}

/// A node of an image.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) xattrs: Xattrs,
    inode: Inode,
    /// Where the part of the data that follows the inode starts.
    inline_start: u64,
}

impl Node {
    /// Permission, set-id and sticky bits.
    pub(crate) fn mode(&self) -> u16 {
        self.inode.mode & !file_type::MASK
    }

    pub(crate) fn owner(&self) -> (u32, u32) {
        (self.inode.uid, self.inode.gid)
    }

    /// Seconds and nanoseconds since the epoch.
    pub(crate) fn mtime(&self) -> (i64, u32) {
        (self.inode.mtime_seconds, self.inode.mtime_nanoseconds)
    }

    pub(crate) fn links(&self) -> u32 {
        self.inode.links
    }

    pub(crate) fn is_whiteout(&self) -> bool {
        self.kind == NodeKind::CharDevice(0, 0)
    }

    pub(crate) fn is_opaque(&self) -> bool {
        let (name, value) = xattr::OPAQUE;
        self.xattrs.get(name).is_some_and(|found| found == value)
    }
}

impl Image {
    /// Opens an image.
    pub(crate) fn open(file: File) -> io::Result<Self> {
        let mut superblock = [0; 128];
        file.read_exact_at(&mut superblock, SUPER_OFFSET as u64)?;
        if u32_at(&superblock, 0) != MAGIC {
            return Err(damaged("it has no EROFS superblock"));
        }
        let meta_start = u64::from(u32_at(&superblock, 40)) * BLOCK;
        Ok(Self { file, meta_start, root: u64::from(u16_at(&superblock, 14)) })
    }

    /// The number of the root directory.
    pub(crate) fn root(&self) -> u64 {
        self.root
    }

    /// The node with number `nid`.
    pub(crate) fn node(&self, nid: u64) -> io::Result<Node> {
        let start = nid.checked_mul(SLOT).and_then(|offset| offset.checked_add(self.meta_start));
        let start = start.ok_or_else(|| damaged("a node number is out of range"))?;
        let mut bytes = [0; 64];
        self.file.read_exact_at(&mut bytes, start)?;
        let inode = Inode::decode(&bytes).ok_or_else(|| damaged("an inode is of an unknown form"))?;
        let (major, minor) = decode_device(inode.block_or_device);
        let kind = match inode.mode & file_type::MASK {
            file_type::DIRECTORY => NodeKind::Directory,
            file_type::REGULAR => NodeKind::File,
            file_type::SYMLINK => NodeKind::Symlink,
            file_type::CHAR => NodeKind::CharDevice(major, minor),
            file_type::BLOCK => NodeKind::BlockDevice(major, minor),
            file_type::FIFO => NodeKind::Fifo,
            _ => return Err(damaged("an inode has no file type")),
        };
        let mut xattrs = Xattrs::new();
        if inode.xattr_bytes > 0 {
            let mut bytes = vec![0; usize::try_from(inode.xattr_bytes).unwrap_or(0)];
            self.file.read_exact_at(&mut bytes, start + INODE_SIZE)?;
            xattrs = xattr::decode(&bytes).ok_or_else(|| damaged("extended attributes break the format"))?;
        }
        Ok(Node { kind, xattrs, inline_start: start + INODE_SIZE + inode.xattr_bytes, inode })
    }

    /// The names in a directory and the numbers of what they name, `.` and `..` left out.
    pub(crate) fn entries(&self, directory: &Node) -> io::Result<Vec<(Vec<u8>, u64)>> {
        let data = self.contents(directory)?;
        let mut entries = Vec::new();
        for block in data.chunks(4096) {
            read_block(block, &mut entries).ok_or_else(|| damaged("a directory breaks the format"))?;
        }
        Ok(entries)
    }

    /// The data of a directory or symbolic link.
    pub(crate) fn contents(&self, node: &Node) -> io::Result<Vec<u8>> {
        if node.inode.size > MAX_IN_MEMORY {
            return Err(damaged("a directory or link is larger than 1 GiB"));
        }
        let mut data = vec![0; usize::try_from(node.inode.size).unwrap_or(0)];
        self.read_exact_at(node, &mut data, 0)?;
        Ok(data)
    }

    /// Copies a file's data to `output`, which is empty; long runs of zeros become holes.
    pub(crate) fn copy(&self, node: &Node, output: &File) -> io::Result<()> {
        let mut buffer = vec![0; usize::try_from(node.inode.size.min(256 << 10)).unwrap_or(0)];
        let mut offset = 0;
        while offset < node.inode.size {
            let wanted = usize::try_from(node.inode.size - offset).unwrap_or(usize::MAX).min(buffer.len());
            let piece = &mut buffer[..wanted];
            self.read_exact_at(node, piece, offset)?;
            if piece.iter().any(|&b| b != 0) {
                output.write_all_at(piece, offset)?;
            }
            offset += wanted as u64;
        }
        output.set_len(node.inode.size)
    }

    /// Fills `buffer` from `offset` of the node's data, which must hold that much.
    fn read_exact_at(&self, node: &Node, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let in_blocks = match node.inode.layout {
            DataLayout::Plain => node.inode.size,
            DataLayout::Inline => node.inode.size - node.inode.size % BLOCK,
        };
        let from_blocks = usize::try_from(in_blocks.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (blocks, tail) = buffer.split_at_mut(from_blocks.min(buffer.len()));
        if !blocks.is_empty() {
            self.file.read_exact_at(blocks, u64::from(node.inode.block_or_device) * BLOCK + offset)?;
        }
        if !tail.is_empty() {
            self.file.read_exact_at(tail, node.inline_start + offset.max(in_blocks) - in_blocks)?;
        }
        Ok(())
    }
}

/// Adds the entries of one directory block.
fn read_block(block: &[u8], entries: &mut Vec<(Vec<u8>, u64)>) -> Option<()> {
    let first_name = usize::from(u16_at(block.get(..DIRENT_SIZE)?, 8));
    let count = first_name / DIRENT_SIZE;
    for index in 0..count {
        let entry = block.get(index * DIRENT_SIZE..(index + 1) * DIRENT_SIZE)?;
        let start = usize::from(u16_at(entry, 8));
        let name = if index + 1 < count {
            let next = block.get((index + 1) * DIRENT_SIZE..(index + 2) * DIRENT_SIZE)?;
            block.get(start..usize::from(u16_at(next, 8)))?
        } else {
            block.get(start..)?.split(|&b| b == 0).next()?
        };
        // A name is made into a path later: it must be one component.
        if name.is_empty() || name.contains(&b'/') {
            return None;
        }
        if name != b"." && name != b".." {
            entries.push((name.to_vec(), u64_at(entry, 0)));
        }
    }
    Some(())
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the layer's filesystem image is damaged: {what}"))
}
