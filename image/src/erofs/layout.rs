//! Gives every inode that has a name its place in the metadata area.
//!
//! Inodes are placed breadth first, so those of one directory lie together. Data that follows an inode must
//! not cross a block (the kernel maps one block of it), so an inode whose data would cross goes to a block
//! with room: the fullest of a few open blocks that still fits, which keeps the waste to a few percent.

use std::collections::VecDeque;

use super::directory;
use super::format::{BLOCK, DataLayout, INODE_SIZE, SLOT};
use super::tree::{InodeId, Node, ROOT, Tree};
use super::xattr;

/// Where an inode is, and how its data is stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placement {
    /// Bytes from the start of the metadata area; a multiple of 32. 0 if it was not placed.
    pub(super) position: u64,
    /// How many names it has; for a directory 2 and its subdirectories.
    pub(super) links: u32,
    /// The directory that a directory is in.
    pub(super) parent: InodeId,
    pub(super) layout: DataLayout,
    /// Bytes of data.
    pub(super) size: u64,
    /// For a directory or symbolic link: its first block, counted from the start of those blocks.
    pub(super) extra_block: u32,
}

/// The placed inodes.
pub(super) struct Layout {
    pub(super) placements: Vec<Placement>,
    /// Those that have a place, in the order of their positions.
    pub(super) order: Vec<InodeId>,
}

impl Placement {
    const UNPLACED: Self =
        Self { position: 0, links: 0, parent: ROOT, layout: DataLayout::Plain, size: 0, extra_block: 0 };

    /// The number by which directories name the inode.
    pub(super) fn nid(&self) -> u64 {
        self.position / SLOT
    }
}

/// Places all inodes of `tree` that can be reached from its root.
pub(super) fn layout(tree: &Tree) -> Layout {
    let mut layout = Layout { placements: vec![Placement::UNPLACED; tree.len()], order: Vec::new() };
    let mut packer = Packer::new();
    let mut directories = VecDeque::from([ROOT]);
    layout.place(tree, ROOT, ROOT, &mut packer);
    while let Some(directory) = directories.pop_front() {
        for (_, child) in tree.entries(directory) {
            let is_directory = matches!(tree.inode(child).node, Node::Directory { .. });
            if layout.placements[child as usize].position == 0 {
                layout.place(tree, child, directory, &mut packer);
            }
            if is_directory {
                layout.placements[directory as usize].links += 1;
                directories.push_back(child);
            } else {
                layout.placements[child as usize].links += 1;
            }
        }
    }
    layout.order.sort_by_key(|&id| layout.placements[id as usize].position);
    layout.place_extra_blocks(tree);
    layout
}

impl Layout {
    fn place(&mut self, tree: &Tree, id: InodeId, parent: InodeId, packer: &mut Packer) {
        let inode = tree.inode(id);
        let fixed = INODE_SIZE + xattr_bytes(tree, id);
        let (size, inline) = match &inode.node {
            Node::File(data) => (data.size, data.tail.len() as u64),
            Node::Directory { .. } => with_tail(directory_size(tree, id), fixed),
            Node::Symlink(target) => with_tail(target.len() as u64, fixed),
            _ => (0, 0),
        };
        let placement = &mut self.placements[id as usize];
        placement.position = packer.place(fixed + inline);
        placement.parent = parent;
        placement.size = size;
        placement.layout = if inline > 0 { DataLayout::Inline } else { DataLayout::Plain };
        if matches!(inode.node, Node::Directory { .. }) {
            placement.links = 2;
        }
        self.order.push(id);
    }

    /// Counts the blocks of directories and symbolic links, in the order in which they are written.
    fn place_extra_blocks(&mut self, tree: &Tree) {
        let mut next = 0;
        for &id in &self.order {
            if matches!(tree.inode(id).node, Node::Directory { .. } | Node::Symlink(_)) {
                let placement = &mut self.placements[id as usize];
                placement.extra_block = next;
                let blocks = match placement.layout {
                    DataLayout::Plain => placement.size.div_ceil(BLOCK),
                    DataLayout::Inline => placement.size / BLOCK,
                };
                next += u32::try_from(blocks).expect("metadata is limited to far less than 16 TiB");
            }
        }
    }
}

/// `size`, and how much of it follows the inode: what is over a whole block, if it fits in one with `fixed`.
fn with_tail(size: u64, fixed: u64) -> (u64, u64) {
    let tail = size % BLOCK;
    (size, if fixed + tail <= BLOCK { tail } else { 0 })
}

/// Bytes of extended attributes after the inode, the opaque mark included.
fn xattr_bytes(tree: &Tree, id: InodeId) -> u64 {
    encoded_xattrs(tree, id).len() as u64
}

/// The extended attributes after the inode, the opaque mark included.
pub(super) fn encoded_xattrs(tree: &Tree, id: InodeId) -> Vec<u8> {
    let inode = tree.inode(id);
    let stored = inode.attributes.xattrs.as_deref();
    let opaque = matches!(inode.node, Node::Directory { opaque: true, .. });
    if stored.is_none() && !opaque {
        return Vec::new();
    }
    let mut xattrs = stored.cloned().unwrap_or_default();
    if opaque {
        xattrs.insert(xattr::OPAQUE.0.to_vec(), xattr::OPAQUE.1.to_vec());
    }
    xattr::encode(&xattrs).expect("attributes were encoded once when they were read, and the mark is short")
}

fn directory_size(tree: &Tree, id: InodeId) -> u64 {
    directory::size(sorted_names(tree, id).map(|(name, _)| name.len()))
}

/// The entries of a directory with `.` and `..` at their places in the order of bytes; these two name `None`.
pub(super) fn sorted_names(tree: &Tree, id: InodeId) -> impl Iterator<Item = (&[u8], Option<InodeId>)> {
    let mut dots = [&b"."[..], b".."].into_iter().peekable();
    let mut entries = tree.entries(id).peekable();
    std::iter::from_fn(move || {
        let dot_first = match (dots.peek(), entries.peek()) {
            (Some(dot), Some((name, _))) => dot < name,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if dot_first {
            dots.next().map(|dot| (dot, None))
        } else {
            entries.next().map(|(n, id)| (n, Some(id)))
        }
    })
}

/// Gives out places in the metadata area.
struct Packer {
    /// The end of the blocks given out so far.
    end: u64,
    /// Where the free rest of a block starts.
    open: Vec<u64>,
}

/// Blocks with room that are remembered.
const MAX_OPEN: usize = 16;

impl Packer {
    /// The first slot stays unused: a node number of 0 would show up as inode 0, which programs skip.
    fn new() -> Self {
        Self { end: BLOCK, open: vec![SLOT] }
    }

    /// A place for `bytes` that crosses no block, or starts a block if longer than one.
    fn place(&mut self, bytes: u64) -> u64 {
        let bytes = bytes.next_multiple_of(SLOT);
        let room = |at: u64| BLOCK - at % BLOCK;
        let fitting = (0..self.open.len()).filter(|&i| room(self.open[i]) >= bytes);
        let position = match fitting.min_by_key(|&i| room(self.open[i])) {
            Some(index) => self.open.swap_remove(index),
            None => {
                let start = self.end;
                self.end += bytes.next_multiple_of(BLOCK);
                start
            }
        };
        let rest = position + bytes;
        if !rest.is_multiple_of(BLOCK) {
            self.open.push(rest);
        }
        if self.open.len() > MAX_OPEN
            && let Some(fullest) = (0..self.open.len()).min_by_key(|&i| room(self.open[i]))
        {
            self.open.swap_remove(fullest);
        }
        position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_never_overlap_nor_cross_a_block() {
        let mut packer = Packer::new();
        let mut taken: Vec<(u64, u64)> = Vec::new();
        for n in 0..2000u64 {
            let bytes = 64 + (n * 7919) % 5000;
            let at = packer.place(bytes);
            assert!(at.is_multiple_of(SLOT));
            assert!(at >= SLOT);
            assert!(at % BLOCK + bytes <= BLOCK || at.is_multiple_of(BLOCK), "{at} {bytes}");
            taken.push((at, at + bytes));
        }
        taken.sort_unstable();
        assert!(taken.windows(2).all(|pair| pair[0].1 <= pair[1].0));
        assert!(taken.iter().all(|&(_, end)| end <= packer.end));
    }

    #[test]
    fn small_inodes_fill_the_gaps() {
        let mut packer = Packer::new();
        let used: u64 = (0..3000u64)
            .map(|n| {
                let bytes = (64 + (n * 7919) % 3000).next_multiple_of(SLOT);
                packer.place(bytes);
                bytes
            })
            .sum();
        assert!(used * 100 / packer.end >= 90, "{used} of {}", packer.end);
    }
}
