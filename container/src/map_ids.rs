//! Maps the ids of a new user namespace to those of its parent (user_namespaces(7)).
//!
//! Root writes the maps itself. Anybody may map one id, the own one, after giving up supplementary groups; for more, the
//! programs newuidmap(1) and newgidmap(1) write what /etc/subuid and /etc/subgid grant.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, getegid, geteuid};

use crate::plan::IdMaps;

/// Ids that cannot be mapped.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The kernel refuses.
    #[error("cannot write {map:?} to {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What was to be written.
        map: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The program that may do it is not there.
    #[error(
        "{field} maps more than the caller's own id, for which a user other than root needs {tool} (package uidmap); \
         install it, or map the own id alone"
    )]
    NoTool {
        /// The field.
        field: &'static str,
        /// The program.
        tool: &'static str,
    },
    /// The program refuses.
    #[error("{field}: {tool} refuses: {said}; {file} must grant these ids to the user")]
    Refused {
        /// The field.
        field: &'static str,
        /// The program.
        tool: &'static str,
        /// What it said.
        said: String,
        /// Where it looks.
        file: &'static str,
    },
}

/// How a map is written.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    Directly,
    /// The caller's own id and no other.
    Alone,
    ByTool,
}

/// Writes both maps for the process `pid`, the first one of the namespace.
pub(crate) fn map_ids(pid: Pid, maps: &IdMaps) -> Result<(), MapError> {
    let root = geteuid().is_root();
    match way(root, geteuid().as_raw(), &maps.uid) {
        Way::ByTool => by_tool("newuidmap", pid, &maps.uid)?,
        Way::Directly | Way::Alone => write(pid, "uid_map", &maps.uid)?,
    }
    match way(root, getegid().as_raw(), &maps.gid) {
        Way::ByTool => by_tool("newgidmap", pid, &maps.gid),
        Way::Directly => write(pid, "gid_map", &maps.gid),
        Way::Alone => {
            write(pid, "setgroups", "deny")?;
            write(pid, "gid_map", &maps.gid)
        }
    }
}

fn way(root: bool, own: u32, map: &str) -> Way {
    let words: Vec<_> = map.split_whitespace().collect();
    match words.as_slice() {
        _ if root => Way::Directly,
        [_, outside, "1"] if *outside == own.to_string() => Way::Alone,
        _ => Way::ByTool,
    }
}

fn write(pid: Pid, file: &str, map: &str) -> Result<(), MapError> {
    let path = PathBuf::from(format!("/proc/{}/{file}", pid.as_raw_nonzero()));
    fs::write(&path, map).map_err(|source| MapError::Write { path, map: map.trim_end().to_owned(), source })
}

fn by_tool(tool: &'static str, pid: Pid, map: &str) -> Result<(), MapError> {
    let (field, file) = match tool {
        "newuidmap" => ("linux.uidMappings", "/etc/subuid"),
        _ => ("linux.gidMappings", "/etc/subgid"),
    };
    let output =
        Command::new(tool).arg(pid.as_raw_nonzero().to_string()).args(map.split_whitespace()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            Err(MapError::Refused { field, tool, said, file })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Err(MapError::NoTool { field, tool }),
        Err(error) => Err(MapError::Refused { field, tool, said: error.to_string(), file }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_id_is_mapped_without_help() {
        assert_eq!(way(true, 0, "0 100000 65536\n"), Way::Directly);
        assert_eq!(way(false, 1000, "0 1000 1\n"), Way::Alone);
        for map in ["0 1000 2\n", "0 1001 1\n", "0 1000 1\n1 100000 65535\n", "0 100000 65536\n"] {
            assert_eq!(way(false, 1000, map), Way::ByTool, "{map}");
        }
    }
}
