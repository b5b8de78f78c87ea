//! The jail around a VMM: when the guest's first instruction runs, there is nothing of the host left to reach but what the
//! machine was given.
//!
//! A guest that takes the VMM over finds an empty root, no other process, no network, no rights, and
//! [`crate::seccomp`]'s short list of system calls. `docs/jail.md` says what each wall is for.
//!
//! ```text
//!   parent   new PID namespace ─► execute
//!   child    Jail::prepare: mount, IPC, UTS and network namespaces     (one thread, nothing open)
//!            Vm::build: opens kernel, disks, /dev/kvm, …               (paths of the host)
//!            Jail::enter: empty root, limits, user, capabilities       (still one thread)
//!            threads start, each under its filter                      (paths of the jail)
//! ```

mod capabilities;
mod config;
mod limits;
mod namespaces;
mod owner;
mod root;
mod user;

pub use config::JailConfig;
pub(crate) use root::on_host;

use std::io;
use std::path::Path;
use std::process::{Child, Command};

use crate::sys::namespaces::spawn_in_pid_namespace;

/// A wall that could not be put up. The machine does not start then.
#[derive(Debug, thiserror::Error)]
#[error("cannot jail the VMM: {what}: {source}; --no-jail does without, see docs/jail.md")]
pub struct JailError {
    what: &'static str,
    source: std::io::Error,
}

impl JailError {
    /// Turns the error of what was to be done into one of ours.
    fn of<E: Into<std::io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self { what, source: source.into() }
    }
}

/// Starts a program that will put itself into a jail, in a PID namespace of its own where the caller may make one: who is not
/// root may not.
///
/// # Errors
/// It cannot be started.
pub fn execute(command: &mut Command) -> io::Result<Child> {
    if rustix::process::geteuid().is_root() {
        return spawn_in_pid_namespace(command);
    }
    command.spawn()
}

/// A jail that is prepared: what happens in it no longer shows outside, but everything is still there.
#[derive(Debug)]
pub struct Jail {
    config: JailConfig,
    is_root: bool,
}

impl Jail {
    /// Leaves the host's namespaces. The process must have one thread.
    ///
    /// # Errors
    /// The host gives no namespaces.
    pub fn prepare(config: JailConfig) -> Result<Self, JailError> {
        let is_root = rustix::process::geteuid().is_root();
        namespaces::leave(is_root)?;
        Ok(Self { config, is_root })
    }

    /// Goes in for good. `sockets` is the only directory of the host's that stays, where the guest's connections go.
    /// The process must have one thread.
    ///
    /// # Errors
    /// A wall could not be put up.
    pub fn enter(self, sockets: Option<&Path>) -> Result<(), JailError> {
        namespaces::check_single_thread()?;
        root::pivot(self.config.root.as_deref(), sockets)?;
        limits::set(&self.config)?;
        capabilities::limit_bounding_set()?;
        if self.is_root {
            user::become_unprivileged(self.config.uid, self.config.gid)?;
        }
        capabilities::drop_all()?;
        user::forbid_new_privileges()
    }
}
