//! A layer's metadata in memory: inodes, and directories that name them.
//!
//! Paths are resolved inside this tree only, symbolic links included, so no path can leave it. Nothing here
//! recurses: a hostile archive may nest directories as deep as it likes.

use std::collections::BTreeMap;

use super::xattr::Xattrs;
use super::{LayerError, Limits};
use crate::tar_stream::Timestamp;

/// Index of an inode in its [`Tree`].
pub(super) type InodeId = u32;
/// The root directory.
pub(super) const ROOT: InodeId = 0;

/// Linux's `NAME_MAX` and `PATH_MAX`.
const MAX_NAME: usize = 255;
const MAX_PATH: usize = 4096;
/// How many symbolic links one path may go through, as in Linux.
const MAX_LINKS: u32 = 40;

/// Data of a regular file: full blocks in the output, and the rest in memory.
#[derive(Debug, Clone, Default)]
pub(super) struct FileData {
    pub(super) size: u64,
    pub(super) first_block: u32,
    /// The last `size % 4096` bytes, unless they went to a block of their own.
    pub(super) tail: Box<[u8]>,
}

/// What an inode is.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Directory {
        entries: BTreeMap<Box<[u8]>, InodeId>,
        opaque: bool,
    },
    File(FileData),
    Symlink(Box<[u8]>),
    CharDevice(u32),
    BlockDevice(u32),
    Fifo,
    /// Hides the same name in the layers below.
    Whiteout,
}

impl Node {
    pub(super) fn empty_directory() -> Self {
        Self::Directory { entries: BTreeMap::new(), opaque: false }
    }
}

/// What every inode has.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes {
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
    pub(super) xattrs: Option<Box<Xattrs>>,
}

impl Attributes {
    /// For a directory that the archive uses but does not list.
    fn implied_directory() -> Self {
        Self { mode: 0o755, ..Self::default() }
    }
}

#[derive(Debug)]
pub(super) struct Inode {
    pub(super) attributes: Attributes,
    pub(super) node: Node,
}

/// The directory an entry goes to, and its name there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) directory: InodeId,
    /// Empty for the root itself.
    pub(super) name: Vec<u8>,
}

/// The metadata of one layer.
pub(super) struct Tree {
    inodes: Vec<Inode>,
    limits: Limits,
    metadata_bytes: u64,
}

impl Tree {
    /// A tree with an empty root directory.
    pub(super) fn new(limits: Limits) -> Self {
        let root = Inode { attributes: Attributes::implied_directory(), node: Node::empty_directory() };
        Self { inodes: vec![root], limits, metadata_bytes: 0 }
    }

    pub(super) fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id as usize]
    }

    fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        &mut self.inodes[id as usize]
    }

    /// How many inodes there are, those that were replaced included.
    pub(super) fn len(&self) -> usize {
        self.inodes.len()
    }

    /// The entries of a directory, in order of their names; none for anything else.
    pub(super) fn entries(&self, id: InodeId) -> impl Iterator<Item = (&[u8], InodeId)> {
        let entries = match &self.inode(id).node {
            Node::Directory { entries, .. } => Some(entries),
            _ => None,
        };
        entries.into_iter().flatten().map(|(name, &child)| (&**name, child))
    }

    /// What `place` names, if it is there.
    pub(super) fn lookup(&self, place: &Place) -> Option<InodeId> {
        if place.name.is_empty() {
            return Some(place.directory);
        }
        match &self.inode(place.directory).node {
            Node::Directory { entries, .. } => entries.get(place.name.as_slice()).copied(),
            _ => None,
        }
    }

    /// Finds where `path` goes. Symbolic links are followed in all components but the last, as if the root of
    /// the tree were the root of the filesystem; directories that are missing on the way are made.
    pub(super) fn place(&mut self, path: &[u8]) -> Result<Place, LayerError> {
        let mut components = components(path)?;
        let name = components.pop().unwrap_or_default().to_vec();
        // What is still to be walked, last component first.
        let mut pending: Vec<Vec<u8>> = components.into_iter().rev().map(<[u8]>::to_vec).collect();
        let mut trail = vec![ROOT];
        let mut links = 0;
        while let Some(component) = pending.pop() {
            if component == b".." {
                // Only link targets hold these; above the root is the root.
                if trail.len() > 1 {
                    trail.pop();
                }
                continue;
            }
            let here = Place { directory: *trail.last().unwrap_or(&ROOT), name: component };
            let child = self.lookup(&here);
            match child.map(|id| &self.inode(id).node) {
                Some(Node::Directory { .. }) => trail.extend(child),
                Some(Node::Symlink(target)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(path_error(path, "goes through too many symbolic links"));
                    }
                    if target.starts_with(b"/") {
                        trail.truncate(1);
                    }
                    pending.extend(link_components(target).map(<[u8]>::to_vec));
                }
                // What is in the way is replaced, as an entry for the directory itself would do.
                Some(_) | None => {
                    trail.push(self.put(&here, Attributes::implied_directory(), Node::empty_directory())?);
                }
            }
        }
        Ok(Place { directory: *trail.last().unwrap_or(&ROOT), name })
    }

    /// Puts an inode at `place`. A directory on a directory keeps its entries; anything else replaces what is
    /// there. A whiteout and a directory of one name make an opaque directory, whichever comes first; any
    /// other entry outdoes a whiteout.
    pub(super) fn put(
        &mut self,
        place: &Place,
        attributes: Attributes,
        node: Node,
    ) -> Result<InodeId, LayerError> {
        let old = self.lookup(place);
        if let Some(id) = old {
            let is_root = place.name.is_empty();
            let inode = self.inode_mut(id);
            match (&mut inode.node, &node) {
                (Node::Directory { .. }, Node::Directory { .. }) => {
                    inode.attributes = attributes;
                    return Ok(id);
                }
                (Node::Directory { opaque, .. }, Node::Whiteout) => {
                    *opaque = true;
                    return Ok(id);
                }
                (_, Node::Whiteout) => return Ok(id),
                _ if is_root => return Err(path_error(b"/", "is not a directory in this layer")),
                _ => {}
            }
        }
        let replaces_whiteout = old.is_some_and(|id| matches!(self.inode(id).node, Node::Whiteout));
        let id = self.add(attributes, node)?;
        if let (true, Node::Directory { opaque, .. }) = (replaces_whiteout, &mut self.inode_mut(id).node) {
            *opaque = true;
        }
        self.name(place, id)?;
        Ok(id)
    }

    /// Gives the inode `target` one more name.
    pub(super) fn name(&mut self, place: &Place, target: InodeId) -> Result<(), LayerError> {
        self.count_metadata(place.name.len())?;
        match &mut self.inode_mut(place.directory).node {
            Node::Directory { entries, .. } => {
                entries.insert(place.name.clone().into_boxed_slice(), target);
                Ok(())
            }
            _ => Err(path_error(&place.name, "is inside something that is not a directory")),
        }
    }

    /// Marks the directory `id` as hiding what the layers below have there.
    pub(super) fn make_opaque(&mut self, id: InodeId) {
        if let Node::Directory { opaque, .. } = &mut self.inode_mut(id).node {
            *opaque = true;
        }
    }

    fn add(&mut self, attributes: Attributes, node: Node) -> Result<InodeId, LayerError> {
        let id = u32::try_from(self.inodes.len()).ok().filter(|&id| id < self.limits.inodes);
        let id = id.ok_or(LayerError::TooMuch { what: "files", limit: self.limits.inodes.into() })?;
        let target = if let Node::Symlink(target) = &node { target.len() } else { 0 };
        let xattrs = attributes.xattrs.iter().flat_map(|xattrs| xattrs.iter());
        self.count_metadata(target + xattrs.map(|(name, value)| name.len() + value.len()).sum::<usize>())?;
        self.inodes.push(Inode { attributes, node });
        Ok(id)
    }

    fn count_metadata(&mut self, bytes: usize) -> Result<(), LayerError> {
        self.metadata_bytes += bytes as u64;
        if self.metadata_bytes > self.limits.metadata_bytes {
            let limit = self.limits.metadata_bytes;
            return Err(LayerError::TooMuch { what: "bytes of names and attributes", limit });
        }
        Ok(())
    }
}

/// The components of a path in an archive. A leading slash is dropped, as other engines do; `..` is refused.
fn components(path: &[u8]) -> Result<Vec<&[u8]>, LayerError> {
    if path.len() > MAX_PATH {
        return Err(path_error(path, "is longer than 4096 bytes"));
    }
    if path.contains(&0) {
        return Err(path_error(path, "holds a NUL byte"));
    }
    let components: Vec<&[u8]> = path.split(|&b| b == b'/').filter(|c| !matches!(*c, b"" | b".")).collect();
    if components.contains(&&b".."[..]) {
        return Err(path_error(path, "holds \"..\", which could leave the image"));
    }
    if components.iter().any(|component| component.len() > MAX_NAME) {
        return Err(path_error(path, "has a component longer than 255 bytes"));
    }
    Ok(components)
}

/// The components of a link's target, last one first.
fn link_components(target: &[u8]) -> impl Iterator<Item = &[u8]> {
    target.rsplit(|&b| b == b'/').filter(|c| !matches!(*c, b"" | b"."))
}

/// An error about `path`, cut to a readable length.
pub(super) fn path_error(path: &[u8], reason: &'static str) -> LayerError {
    LayerError::Path { path: shown(path), reason }
}

/// At most 200 bytes of `path`, for messages.
pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        Tree::new(Limits { tar_bytes: 0, inodes: 100, metadata_bytes: 1000 })
    }

    fn put(tree: &mut Tree, path: &str, node: Node) -> InodeId {
        let place = tree.place(path.as_bytes()).unwrap();
        tree.put(&place, Attributes::default(), node).unwrap()
    }

    fn symlink(target: &str) -> Node {
        Node::Symlink(target.as_bytes().into())
    }

    fn find(tree: &mut Tree, path: &str) -> Option<InodeId> {
        let place = tree.place(path.as_bytes()).unwrap();
        tree.lookup(&place)
    }

    #[test]
    fn parents_that_are_links_are_followed_inside_the_tree() {
        for target in ["usr/lib", "/usr/lib", "../../usr/./lib/", "/../usr/lib"] {
            let mut tree = tree();
            put(&mut tree, "lib", symlink(target));
            let file = put(&mut tree, "/lib/x", Node::Fifo);
            assert_eq!(find(&mut tree, "usr/lib/x"), Some(file), "{target}");
        }
    }

    #[test]
    fn bad_paths_are_refused() {
        let long = "n".repeat(256);
        let deep = "d/".repeat(2050);
        for path in ["../x", "a/../../x", "a/..", "a\0b", long.as_str(), deep.as_str()] {
            assert!(tree().place(path.as_bytes()).is_err(), "{path:?}");
        }
    }

    #[test]
    fn links_that_loop_are_refused() {
        let mut tree = tree();
        put(&mut tree, "a", symlink("b"));
        put(&mut tree, "b", symlink("a"));
        let error = tree.place(b"a/x").unwrap_err().to_string();
        assert!(error.contains("too many symbolic links"), "{error}");
    }

    #[test]
    fn later_entries_replace_earlier_ones_but_directories_merge() {
        let mut tree = tree();
        let inner = put(&mut tree, "d/x", Node::Fifo);
        put(&mut tree, "d", Node::empty_directory());
        assert_eq!(find(&mut tree, "d/x"), Some(inner));
        put(&mut tree, "d", Node::Fifo);
        put(&mut tree, "d", Node::empty_directory());
        assert_eq!(find(&mut tree, "d/x"), None);
    }

    #[test]
    fn a_whiteout_beside_an_entry_yields_to_it() {
        for directory_first in [true, false] {
            let mut tree = tree();
            let nodes = [Node::empty_directory(), Node::Whiteout];
            for node in if directory_first {
                nodes
            } else {
                nodes.map(|n| n).into_iter().rev().collect::<Vec<_>>().try_into().unwrap()
            } {
                put(&mut tree, "d", node);
            }
            let id = find(&mut tree, "d").unwrap();
            assert!(matches!(tree.inode(id).node, Node::Directory { opaque: true, .. }), "{directory_first}");
        }
        let mut tree = tree();
        put(&mut tree, "f", Node::Fifo);
        put(&mut tree, "f", Node::Whiteout);
        let id = find(&mut tree, "f").unwrap();
        assert!(matches!(tree.inode(id).node, Node::Fifo));
    }

    #[test]
    fn the_root_stays_a_directory() {
        let mut tree = tree();
        let root = tree.place(b"./").unwrap();
        assert!(tree.put(&root, Attributes::default(), Node::Fifo).is_err());
        let changed = Attributes { mode: 0o700, ..Attributes::default() };
        tree.put(&root, changed, Node::empty_directory()).unwrap();
        assert_eq!(tree.inode(ROOT).attributes.mode, 0o700);
    }

    #[test]
    fn limits_hold() {
        let mut many = tree();
        let error = (0..200).find_map(|n| {
            let place = many.place(format!("{n}").as_bytes()).unwrap();
            many.put(&place, Attributes::default(), Node::Fifo).err()
        });
        assert!(matches!(error, Some(LayerError::TooMuch { what: "files", limit: 100 })), "{error:?}");

        let mut long = tree();
        let place = long.place(b"l").unwrap();
        let error = long.put(&place, Attributes::default(), symlink(&"t".repeat(1000))).unwrap_err();
        assert!(matches!(error, LayerError::TooMuch { limit: 1000, .. }), "{error:?}");
    }
}
