//! What a jail is like: plain data.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use super::JailError;

/// The first of the user ids that machines get; nothing else on a host uses such numbers.
const FIRST_UID: u32 = 0x7000_0000;
/// How many there are.
const UIDS: u32 = 1 << 24;
/// Most descriptors of a VMM: a connection of the guest's to the host takes one.
const DESCRIPTORS: u64 = 4096;

/// A jail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JailConfig {
    /// The user that the VMM becomes, where it is started by root. Other users' VMMs stay theirs.
    pub uid: u32,
    /// And its group.
    pub gid: u32,
    /// A directory that becomes the root, for files that are named while the machine runs; an empty root if none.
    #[serde(default)]
    pub root: Option<PathBuf>,
    /// Most descriptors.
    #[serde(default = "descriptors")]
    pub descriptors: u64,
    /// Longest that the VMM may make a file, in bytes; no limit if none.
    #[serde(default)]
    pub file_bytes: Option<u64>,
}

fn descriptors() -> u64 {
    DESCRIPTORS
}

impl JailConfig {
    /// A jail whose user and group are those that the number `machine` stands for, so that machines cannot reach each
    /// other as fellow users.
    pub fn for_machine(machine: u32) -> Self {
        let id = FIRST_UID + machine % UIDS;
        Self { uid: id, gid: id, root: None, descriptors: DESCRIPTORS, file_bytes: None }
    }

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
        Ok(()) if is_root => chown(root, Some(wanted.0), Some(wanted.1))?,
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
    fn machines_are_users_that_exist_nowhere_else() {
        let (one, two) = (JailConfig::for_machine(1), JailConfig::for_machine(u32::MAX));
        assert_eq!((one.uid, one.gid), (0x7000_0001, 0x7000_0001));
        assert_eq!(two.uid, 0x70ff_ffff);
    }

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
        chown(&root, Some(1000), Some(0)).unwrap();
        let error = JailConfig::for_machine(8).with_root(&root).unwrap_err().to_string();
        assert!(error.contains("chown -R 1879048200:1879048200 /"), "{error}");
        let error = JailConfig::for_machine(8).with_root("/dev/null".as_ref()).unwrap_err().to_string();
        assert!(error.contains("not a directory"), "{error}");
    }

    #[test]
    fn a_jail_can_be_written_by_hand() {
        let jail: JailConfig = serde_json::from_str(r#"{"uid": 65534, "gid": 65534}"#).unwrap();
        assert_eq!(jail, JailConfig { uid: 65_534, gid: 65_534, ..JailConfig::for_machine(0) });
    }
}
