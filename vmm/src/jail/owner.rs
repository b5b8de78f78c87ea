//! The user that a jail's root belongs to, who is the one that the VMM becomes.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, lchown};
use std::path::Path;

use rustix::process::geteuid;

use super::{JailConfig, JailError};

impl JailConfig {
    /// The same with the directory `root` as its root, whose owner the VMM becomes. One that is not there is made, for the
    /// user that the VMM would have been.
    ///
    /// # Errors
    /// It cannot be made or used, or belongs to root.
    pub fn with_root(self, root: &Path) -> Result<Self, JailError> {
        let use_root = || {
            let (uid, gid) = owner(root, (self.uid, self.gid), geteuid().is_root())?;
            Ok::<_, io::Error>((uid, gid, root.canonicalize()?))
        };
        let (uid, gid, root) = use_root().map_err(JailError::of("use the jail's root directory"))?;
        Ok(Self { uid, gid, root: Some(root), ..self })
    }
}

/// The owner of `root`, which is made for `wanted` if it is not there.
fn owner(root: &Path, wanted: (u32, u32), is_root: bool) -> io::Result<(u32, u32)> {
    match DirBuilder::new().mode(0o700).create(root) {
        Ok(()) if is_root => lchown(root, Some(wanted.0), Some(wanted.1))?,
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let metadata = std::fs::metadata(root)?;
    if !metadata.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let owner = (metadata.uid(), metadata.gid());
    if is_root && (owner.0 == 0 || owner.1 == 0) {
        return Err(io::Error::other(format!(
            "it belongs to root; give it, and the files in it, to the user that the VMM is to be: `chown -R {}:{} {}`",
            wanted.0,
            wanted.1,
            root.display()
        )));
    }
    Ok(owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vmm_becomes_the_owner_of_its_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let jail = JailConfig::for_machine(7).with_root(&root).unwrap();
        assert_eq!(jail.root.as_deref(), root.canonicalize().ok().as_deref());
        assert_eq!(std::fs::metadata(&root).unwrap().mode() & 0o777, 0o700);
        if !geteuid().is_root() {
            return assert_eq!(jail.uid, geteuid().as_raw());
        }
        assert_eq!((jail.uid, jail.gid), (0x7000_0007, 0x7000_0007));
        let other = JailConfig::for_machine(8).with_root(&root).unwrap();
        assert_eq!((other.uid, other.gid), (0x7000_0007, 0x7000_0007), "it is there already");
        lchown(&root, Some(1000), Some(0)).unwrap();
        let error = JailConfig::for_machine(8).with_root(&root).unwrap_err().to_string();
        assert!(error.contains("chown -R 1879048200:1879048200 /"), "{error}");
        let error = JailConfig::for_machine(8).with_root("/dev/null".as_ref()).unwrap_err().to_string();
        assert!(error.contains("not a directory"), "{error}");
    }
}
