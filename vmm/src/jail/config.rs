//! What a jail is like: plain data.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
    fn a_jail_can_be_written_by_hand() {
        let jail: JailConfig = serde_json::from_str(r#"{"uid": 65534, "gid": 65534}"#).unwrap();
        assert_eq!(jail, JailConfig { uid: 65_534, gid: 65_534, ..JailConfig::for_machine(0) });
    }
}
