//! The process that `exec` makes: one from a file, or the container's own with changes.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Capability, LinuxCapabilities, Process};

use super::error::RuntimeError;
use crate::bundle::{read_without, unknown_capabilities_warning};

/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Where the process is described.
#[derive(Debug)]
pub enum ExecProcess {
    /// In a file, which holds the JSON of a `process` as config.json has it.
    File(PathBuf),
    /// In the container's config.json, apart from these changes.
    Changed(ProcessChanges),
}

/// What is different from the container's own process.
#[derive(Clone, Debug, Default)]
pub struct ProcessChanges {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Another working directory.
    pub cwd: Option<PathBuf>,
    /// Further variables, `NAME=VALUE`; they win over others of the same name.
    pub env: Vec<String>,
    /// Another user, and perhaps another group.
    pub user: Option<(u32, Option<u32>)>,
    /// Further groups.
    pub additional_gids: Vec<u32>,
    /// Further capabilities, `CAP_KILL` or the like.
    pub capabilities: Vec<String>,
    /// That no execution may give it more rights, even if that is not so for the container's own.
    pub no_new_privileges: bool,
}

impl ExecProcess {
    /// The process, in a container whose own is `own`.
    pub(super) fn resolve(&self, own: &Process) -> Result<Process, RuntimeError> {
        match self {
            Self::File(path) => read(path).map_err(|error| RuntimeError::file(path, error)),
            Self::Changed(changes) => changes.apply(own.clone()),
        }
    }
}

fn read(path: &Path) -> io::Result<Process> {
    let mut json = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut json)?;
    if json.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    let (process, unknown) = read_without(&json, "/capabilities")?;
    if let Some(warning) = unknown_capabilities_warning(&unknown) {
        tracing::warn!("{warning}");
    }
    Ok(process)
}

impl ProcessChanges {
    fn apply(&self, mut process: Process) -> Result<Process, RuntimeError> {
        process.set_args(Some(self.args.clone()));
        // Whether there is one is the command's, and not the container's.
        process.set_terminal(None).set_console_size(None);
        if let Some(cwd) = &self.cwd {
            process.set_cwd(cwd.clone());
        }
        let name = |entry: &String| entry.split_once('=').map_or(entry.len(), |(name, _)| name.len());
        let mut env = process.env().clone().unwrap_or_default();
        for added in &self.env {
            env.retain(|entry| entry[..name(entry)] != added[..name(added)]);
            env.push(added.clone());
        }
        process.set_env(Some(env));
        self.change_user(&mut process);
        if !self.capabilities.is_empty() {
            let added = self.capabilities.iter().map(|name| capability(name)).collect::<Result<_, _>>()?;
            process.set_capabilities(Some(with_added(process.capabilities().clone(), &added)));
        }
        if self.no_new_privileges {
            process.set_no_new_privileges(Some(true));
        }
        Ok(process)
    }

    fn change_user(&self, process: &mut Process) {
        let mut user = process.user().clone();
        if let Some((uid, gid)) = self.user {
            user.set_uid(uid);
            user.set_gid(gid.unwrap_or(user.gid()));
        }
        if !self.additional_gids.is_empty() {
            let mut gids = user.additional_gids().clone().unwrap_or_default();
            gids.extend(&self.additional_gids);
            user.set_additional_gids(Some(gids));
        }
        process.set_user(user);
    }
}

/// With or without `CAP_` in front, in any case.
fn capability(name: &str) -> Result<Capability, RuntimeError> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    serde_json::from_value(full.into()).map_err(|_| RuntimeError::UnknownCapability { name: name.to_owned() })
}

/// In the sets that root needs; another user has them only if the container's own process has them ambient.
fn with_added(sets: Option<LinuxCapabilities>, added: &HashSet<Capability>) -> LinuxCapabilities {
    let mut sets = sets.unwrap_or_default();
    let with = |set: &Option<HashSet<Capability>>| Some(set.iter().flatten().chain(added).copied().collect());
    let (bounding, effective, permitted) =
        (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Process {
        serde_json::from_str(
            r#"{"user": {"uid": 5, "gid": 6, "additionalGids": [7]}, "cwd": "/", "args": ["init"],
                "env": ["PATH=/bin", "A=1", "AB=2"], "capabilities": {"bounding": ["CAP_KILL"]}}"#,
        )
        .unwrap()
    }

    fn changed(changes: ProcessChanges) -> Process {
        ExecProcess::Changed(changes).resolve(&own()).unwrap()
    }

    #[test]
    fn what_is_not_changed_is_the_containers() {
        let process = changed(ProcessChanges { args: vec!["sh".into()], ..ProcessChanges::default() });
        assert_eq!(process.args().as_ref().unwrap(), &["sh"]);
        assert_eq!(process.user(), own().user());
        assert_eq!(process.env(), own().env());
        assert_eq!(process.capabilities(), own().capabilities());
    }

    #[test]
    fn an_added_variable_wins_over_its_namesake_only() {
        let env = ["A=3", "PATH=/x=y", "NEW"].map(str::to_owned).to_vec();
        let process = changed(ProcessChanges { env, ..ProcessChanges::default() });
        assert_eq!(process.env().as_ref().unwrap(), &["AB=2", "A=3", "PATH=/x=y", "NEW"]);
    }

    #[test]
    fn user_groups_and_capabilities_are_added() {
        let process = changed(ProcessChanges {
            user: Some((9, None)),
            additional_gids: vec![8],
            capabilities: vec!["chown".into(), "CAP_KILL".into()],
            no_new_privileges: true,
            ..ProcessChanges::default()
        });
        assert_eq!((process.user().uid(), process.user().gid()), (9, 6));
        assert_eq!(process.user().additional_gids().as_ref().unwrap(), &[7, 8]);
        let sets = process.capabilities().clone().unwrap();
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 2);
        assert_eq!(sets.permitted(), sets.bounding());
        assert_eq!(sets.inheritable(), &None);
        assert_eq!(process.no_new_privileges(), Some(true));
    }

    #[test]
    fn an_unknown_capability_is_named() {
        let changes = ProcessChanges { capabilities: vec!["fly".into()], ..ProcessChanges::default() };
        let error = ExecProcess::Changed(changes).resolve(&own()).unwrap_err().to_string();
        assert!(error.contains("\"fly\""), "{error}");
    }

    #[test]
    fn a_file_describes_all_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("process.json");
        std::fs::write(&path, serde_json::to_string(&own()).unwrap()).unwrap();
        assert_eq!(ExecProcess::File(path.clone()).resolve(&Process::default()).unwrap(), own());
        std::fs::write(&path, "{\"args\": 3}").unwrap();
        let error = ExecProcess::File(path).resolve(&own()).unwrap_err().to_string();
        assert!(error.contains("process.json"), "{error}");
    }
}
