//! Hooks: programs that the configuration names for points of a container's life (runtime specification, "POSIX-platform
//! Hooks").
//!
//! | hook | run by | when |
//! |---|---|---|
//! | `prestart`, `createRuntime` | the creator | everything is mounted, before the root is changed |
//! | `createContainer` | init, in the container's namespaces, with the host's files | the same |
//! | `startContainer` | init, in the container | just before its program |
//! | `poststart` | whoever starts it | once its program runs; a failure is a warning |
//! | `poststop` | whoever deletes it | when nothing is left of it but its record; a failure is a warning |
//!
//! Each gets the container's state on standard input. Input and output are memory files, so that no hook can make
//! anybody wait by not reading or by writing too much.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::sys;

/// How much of what a failed hook wrote is told, in bytes from the end.
const TOLD_BYTES: u64 = 1024;

/// The hooks of a container.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hooks {
    /// `prestart`, then `createRuntime`.
    pub(crate) create_runtime: Vec<Hook>,
    pub(crate) create_container: Vec<Hook>,
    pub(crate) start_container: Vec<Hook>,
    pub(crate) poststart: Vec<Hook>,
    pub(crate) poststop: Vec<Hook>,
}

/// A program to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hook {
    /// Its name in the configuration, like `hooks.poststop[0]`.
    pub(crate) field: String,
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) timeout: Option<Duration>,
}

/// A hook that could not be run, or did not end well.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {path}: {reason}")]
pub struct HookError {
    /// The hook's name in the configuration.
    pub field: String,
    /// Its program.
    pub path: PathBuf,
    /// What went wrong, with the end of what it wrote.
    pub reason: String,
}

impl Hooks {
    /// Whether anything is to be run before the root is changed.
    pub(crate) fn are_due_before_pivot(&self) -> bool {
        !self.create_runtime.is_empty() || !self.create_container.is_empty()
    }
}

/// Runs hooks in their order, up to the first that fails.
///
/// # Errors
/// That one's.
pub(crate) fn run_all(hooks: &[Hook], state: &[u8]) -> Result<(), HookError> {
    hooks.iter().try_for_each(|hook| {
        hook.run(state).map_err(|reason| HookError {
            field: hook.field.clone(),
            path: hook.path.clone(),
            reason,
        })
    })
}

/// Runs all hooks in their order; a failure is a warning.
pub(crate) fn run_all_and_warn(hooks: &[Hook], state: &[u8]) {
    for hook in hooks {
        if let Err(error) = run_all(std::slice::from_ref(hook), state) {
            tracing::warn!("{error}");
        }
    }
}

impl Hook {
    fn run(&self, state: &[u8]) -> Result<(), String> {
        let output = memory_file(&[]).map_err(|error| error.to_string())?;
        let mut child = self.spawn(state, &output).map_err(|error| format!("cannot be executed: {error}"))?;
        let ended = self.wait(&mut child).map_err(|error| format!("cannot be waited for: {error}"))?;
        match ended {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("{}{}", describe(status), told(output))),
            None => Err(format!("took longer than its timeout and was killed{}", told(output))),
        }
    }

    fn spawn(&self, state: &[u8], output: &File) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        if let Some((name, args)) = self.args.split_first() {
            command.arg0(name).args(args);
        }
        command.env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(memory_file(state)?).stdout(output.try_clone()?).stderr(output.try_clone()?);
        // A command in the foreground holds its own back.
        sys::with_fresh_signals(&mut command).spawn()
    }

    /// Waits for its end; `None` when it had to be killed.
    fn wait(&self, child: &mut Child) -> io::Result<Option<ExitStatus>> {
        if let Some(timeout) = self.timeout {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
            let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
            if !ends_within(timeout, pidfd.as_fd())? {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
        }
        child.wait().map(Some)
    }
}

fn ends_within(timeout: Duration, pidfd: std::os::fd::BorrowedFd<'_>) -> io::Result<bool> {
    let timeout = Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: 0 };
    let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    Ok(retry_on_intr(|| poll(&mut fds, Some(&timeout)))? > 0)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "did not end well".to_owned(),
    }
}

fn memory_file(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("carve-hook", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

/// The end of what it wrote.
fn told(mut output: File) -> String {
    let mut text = Vec::new();
    let length = output.seek(io::SeekFrom::End(0)).unwrap_or(0);
    let from = io::SeekFrom::Start(length.saturating_sub(TOLD_BYTES));
    let read = output.seek(from).and_then(|_| output.take(TOLD_BYTES).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    match (read, text.trim()) {
        (Ok(_), "") | (Err(_), _) => String::new(),
        (Ok(_), text) => format!(": {text}"),
    }
}

/// What hooks read: the container's state (runtime specification, "State").
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HookState<'a> {
    pub(crate) oci_version: &'a str,
    pub(crate) id: &'a str,
    pub(crate) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<i32>,
    pub(crate) bundle: &'a Path,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub(crate) annotations: &'a HashMap<String, String>,
}

impl HookState<'_> {
    /// As JSON.
    pub(crate) fn json(&self) -> Vec<u8> {
        // Plain strings and numbers: there is nothing that could fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, timeout: Option<u64>) -> Hook {
        Hook {
            field: "hooks.poststop[0]".into(),
            path: "/bin/sh".into(),
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec![("GREETING".into(), "hello".into())],
            timeout: timeout.map(Duration::from_secs),
        }
    }

    fn error(hook: &Hook) -> String {
        run_all(std::slice::from_ref(hook), b"{}").unwrap_err().to_string()
    }

    #[test]
    fn it_reads_the_state_and_has_its_own_environment() {
        let check =
            r#"read state; test "$state" = '{"id":1}' && test "$GREETING" = hello && test -z "$HOME""#;
        run_all(&[hook(check, Some(10)), hook(check, None)], br#"{"id":1}"#).unwrap();
    }

    #[test]
    fn its_failure_tells_what_it_wrote() {
        assert_eq!(
            error(&hook("echo no such network >&2; exit 3", None)),
            "hooks.poststop[0]: /bin/sh: ended with exit code 3: no such network"
        );
        assert_eq!(error(&hook("kill -9 $$", None)), "hooks.poststop[0]: /bin/sh: was ended by signal 9");
        let much = error(&hook("yes | head -c 100000; exit 1", None));
        assert!(much.len() < 1200, "{}", much.len());
    }

    #[test]
    fn one_that_hangs_is_killed_at_its_timeout() {
        let error = error(&hook("exec sleep 1000", Some(1)));
        assert!(error.ends_with("took longer than its timeout and was killed"), "{error}");
    }

    #[test]
    fn one_that_is_not_there_is_named() {
        let hook = Hook { path: "/nowhere/hook".into(), ..hook("", None) };
        assert!(error(&hook).contains("/nowhere/hook: cannot be executed"), "{}", error(&hook));
    }

    #[test]
    fn a_hook_that_reads_nothing_holds_up_nobody() {
        run_all(&[hook("exit 0", None)], &vec![b'x'; 1 << 20]).unwrap();
    }
}
