//! Unpacks an image's layers to one directory, for runtimes that want a plain root filesystem, and for hosts
//! that cannot mount EROFS.
//!
//! The layers' EROFS images are merged as overlayfs would merge them. Every directory is opened beneath the
//! destination without following symbolic links, so nothing is written elsewhere whatever a layer holds.

mod node;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};

use crate::erofs::read::{Image as Erofs, Node, NodeKind};
use crate::store::{Image, StoreError};

impl Image {
    /// Unpacks all layers, merged, into `destination`, an empty directory. As root, owners, devices and
    /// extended attributes are kept; otherwise everything belongs to the caller and devices are left out.
    ///
    /// # Errors
    ///
    /// A destination that is not an empty directory, and failures to read or write.
    pub fn unpack(&self, destination: &Path) -> Result<(), StoreError> {
        let to = || StoreError::io("unpack an image to", destination);
        let is_empty = std::fs::read_dir(destination).map_err(to())?.next().is_none();
        if !is_empty {
            return Err(to()(io::ErrorKind::DirectoryNotEmpty.into()));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(destination, flags, Mode::empty()).map_err(|e| to()(e.into()))?;
        let mut unpacker = Unpacker { root, directories: BTreeMap::new() };
        for layer in &self.layers {
            let read = || StoreError::io("unpack", &layer.erofs);
            let erofs = File::open(&layer.erofs).and_then(Erofs::open).map_err(read())?;
            unpacker.add_layer(&erofs).map_err(read())?;
        }
        unpacker.finish().map_err(to())
    }
}

struct Unpacker {
    root: OwnedFd,
    /// The directories there are, by path below the root; their attributes are set last, because a read-only
    /// one could not be filled and filling one changes its time.
    directories: BTreeMap<PathBuf, Node>,
}

impl Unpacker {
    fn add_layer(&mut self, erofs: &Erofs) -> io::Result<()> {
        let mut pending = vec![(PathBuf::new(), erofs.root())];
        let mut links = HashMap::new();
        while let Some((path, nid)) = pending.pop() {
            let node = erofs.node(nid)?;
            let directory = self.open(&path)?;
            if node.is_opaque() {
                for name in names(&directory)? {
                    self.remove(&directory, &path, &name)?;
                }
            }
            for (name, child) in erofs.entries(&node)? {
                let name = OsStr::from_bytes(&name);
                let child_path = path.join(name);
                let child_node = erofs.node(child)?;
                if child_node.kind == NodeKind::Directory {
                    self.make_directory(&directory, &path, name)?;
                    pending.push((child_path, child));
                    continue;
                }
                self.remove(&directory, &path, name)?;
                if child_node.is_whiteout() {
                    continue;
                }
                match links.get(&child) {
                    Some(first) => {
                        rustix::fs::linkat(
                            &self.root,
                            first as &PathBuf,
                            &directory,
                            name,
                            AtFlags::empty(),
                        )?;
                    }
                    None => node::create(erofs, &child_node, &directory, name)?,
                }
                if child_node.links() > 1 {
                    links.entry(child).or_insert(child_path);
                }
            }
            self.directories.insert(path, node);
        }
        Ok(())
    }

    /// Sets the directories' attributes, the deepest first.
    fn finish(self) -> io::Result<()> {
        for (path, node) in self.directories.iter().rev() {
            node::set_attributes(node, &self.open(path)?)?;
        }
        Ok(())
    }

    /// Opens a directory below the root without following any link.
    fn open(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)?)
    }

    /// Makes sure that `name` is a directory; one that is there keeps what is in it.
    fn make_directory(&mut self, parent: &OwnedFd, path: &Path, name: &OsStr) -> io::Result<()> {
        if kind(parent, name)? != Some(FileType::Directory) {
            self.remove(parent, path, name)?;
            rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
        }
        Ok(())
    }

    /// Removes `name` and all below it, if it is there.
    fn remove(&mut self, parent: &OwnedFd, path: &Path, name: &OsStr) -> io::Result<()> {
        match kind(parent, name)? {
            None => {}
            Some(FileType::Directory) => {
                std::fs::remove_dir_all(by_descriptor(parent, name))?;
                let gone = path.join(name);
                self.directories.retain(|directory, _| !directory.starts_with(&gone));
            }
            Some(_) => rustix::fs::unlinkat(parent, name, AtFlags::empty())?,
        }
        Ok(())
    }
}

/// What `name` is; none if it is not there.
fn kind(parent: &OwnedFd, name: &OsStr) -> io::Result<Option<FileType>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The names in a directory.
fn names(directory: &OwnedFd) -> io::Result<Vec<std::ffi::OsString>> {
    std::fs::read_dir(by_descriptor(directory, OsStr::new(".")))?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect()
}

/// A path to `name` in the directory that is open as `parent`, for calls that take no descriptor.
fn by_descriptor(parent: &OwnedFd, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name)
}

/// Whether owners, devices and all attributes can be set.
fn is_privileged() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests;
