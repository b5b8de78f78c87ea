//! Appends the metadata to the streamed data, and puts the superblock in front.

use super::LayerError;
use super::data::BlockWriter;
use super::directory::{self, Dirent};
use super::format::{BLOCK, DataLayout, Inode, Superblock, dirent_type, file_type};
use super::from_tar::LayerSummary;
use super::layout::{self, Layout};
use super::tree::{self, InodeId, Node, ROOT, Tree};

/// Completes the image of `tree`, whose file data `output` holds.
pub(super) fn finish(tree: &Tree, mut output: BlockWriter<'_>) -> Result<LayerSummary, LayerError> {
    let layout = layout::layout(tree);
    let first_extra = output.next_block().map_err(LayerError::Write)?;
    for &id in &layout.order {
        let data = metadata_payload(tree, &layout, id);
        let (in_blocks, _) = split_payload(&layout, id, &data);
        output.write(in_blocks).and_then(|()| output.pad()).map_err(LayerError::Write)?;
    }
    let meta_block = output.next_block().map_err(LayerError::Write)?;
    write_inodes(tree, &layout, first_extra, &mut output)
        // erofs-utils before 1.6 read an attribute header behind every inode, even where there is none.
        .and_then(|()| output.write(&[0; 12]))
        .and_then(|()| output.pad())
        .map_err(LayerError::Write)?;

    let root_nid = layout.placements[ROOT as usize].nid();
    let inodes = layout.order.len() as u64;
    let superblock = Superblock {
        root_nid: u16::try_from(root_nid).expect("the root is placed first, at the start of the metadata"),
        inodes,
        blocks: output.next_block().map_err(LayerError::Write)?,
        meta_block,
    };
    let bytes = output.finish(&superblock.encode()).map_err(LayerError::Write)?;
    Ok(LayerSummary { bytes, inodes })
}

fn write_inodes(
    tree: &Tree,
    layout: &Layout,
    first_extra: u32,
    output: &mut BlockWriter<'_>,
) -> std::io::Result<()> {
    const GAP: [u8; 4096] = [0; 4096];
    let mut position = 0;
    for (number, &id) in (1..).zip(&layout.order) {
        let start = layout.placements[id as usize].position;
        let gap = usize::try_from(start - position).expect("inodes are less than a block apart");
        output.write(&GAP[..gap])?;
        let payload = metadata_payload(tree, layout, id);
        let (_, mut inline) = split_payload(layout, id, &payload);
        if let Node::File(data) = &tree.inode(id).node {
            inline = &data.tail;
        }
        let xattrs = layout::encoded_xattrs(tree, id);
        let inode = inode(tree, layout, id, number, xattrs.len() as u64, first_extra).encode();
        for part in [&inode[..], &xattrs, inline] {
            output.write(part)?;
        }
        position = start + (inode.len() + xattrs.len() + inline.len()) as u64;
    }
    Ok(())
}

/// The data of a directory or symbolic link; empty for anything else.
fn metadata_payload(tree: &Tree, layout: &Layout, id: InodeId) -> Vec<u8> {
    match &tree.inode(id).node {
        Node::Symlink(target) => target.to_vec(),
        Node::Directory { .. } => {
            let parent = layout.placements[id as usize].parent;
            let entries: Vec<_> = layout::sorted_names(tree, id)
                .map(|(name, child)| {
                    let child = child.unwrap_or(if name == b"." { id } else { parent });
                    let nid = layout.placements[child as usize].nid();
                    Dirent { name, nid, kind: dirent_type(mode(&tree.inode(child).node)) }
                })
                .collect();
            directory::encode(&entries)
        }
        _ => Vec::new(),
    }
}

/// What of a payload goes to blocks, and what follows the inode.
fn split_payload<'a>(layout: &Layout, id: InodeId, data: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    match layout.placements[id as usize].layout {
        DataLayout::Plain => (data, &[]),
        DataLayout::Inline => data.split_at(data.len() - data.len() % 4096),
    }
}

fn inode(
    tree: &Tree,
    layout: &Layout,
    id: InodeId,
    number: u32,
    xattr_bytes: u64,
    first_extra: u32,
) -> Inode {
    let tree::Inode { attributes, node } = tree.inode(id);
    let placement = &layout.placements[id as usize];
    let has_blocks = placement.size >= BLOCK || placement.layout == DataLayout::Plain && placement.size > 0;
    let block_or_device = match node {
        Node::CharDevice(device) | Node::BlockDevice(device) => *device,
        Node::File(data) if has_blocks => data.first_block,
        Node::Directory { .. } | Node::Symlink(_) if has_blocks => first_extra + placement.extra_block,
        _ => 0,
    };
    Inode {
        layout: placement.layout,
        xattr_bytes,
        mode: mode(node) | attributes.mode,
        size: placement.size,
        block_or_device,
        number,
        uid: attributes.uid,
        gid: attributes.gid,
        mtime_seconds: attributes.mtime.seconds,
        mtime_nanoseconds: attributes.mtime.nanoseconds,
        links: placement.links,
    }
}

/// The file type bits of a node.
fn mode(node: &Node) -> u16 {
    match node {
        Node::Directory { .. } => file_type::DIRECTORY,
        Node::File(_) => file_type::REGULAR,
        Node::Symlink(_) => file_type::SYMLINK,
        // overlayfs's whiteout is the character device 0/0.
        Node::CharDevice(_) | Node::Whiteout => file_type::CHAR,
        Node::BlockDevice(_) => file_type::BLOCK,
        Node::Fifo => file_type::FIFO,
    }
}
