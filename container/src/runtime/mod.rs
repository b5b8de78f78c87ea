//! Containers that outlive the command that made them: `create` in one process, `start` in another, and so on
//! (runtime specification, "Lifecycle").
//!
//! ```text
//! ROOT/ID/state.json    what the container is: see `record.rs`
//! ROOT/ID/config.json   its configuration, as it was when it was created
//! ROOT/ID/start         the socket on which its init waits to be started
//! ```
//!
//! What the files cannot know is asked of the kernel each time: whether the process lives, and is the same one (its
//! start time), and whether it still waits to be started (somebody listens on the socket). So there is nothing to
//! bring up to date, and no process may be killed at a wrong moment. A command that changes a container holds the
//! lock on its directory.

mod create;
mod delete;
mod error;
mod events;
mod exec;
mod exec_process;
mod features;
mod foreground;
mod inherited;
mod kill;
mod pause;
mod pid_file;
mod process;
mod processes;
mod record;
mod relay;
mod start;
mod state;
mod store;
mod trees;
mod update;

use std::path::PathBuf;
use std::time::Duration;

pub use crate::sys::give_back_code;
pub use create::{Create, Created};
pub use error::RuntimeError;
pub use events::Event;
pub use exec::Exec;
pub use exec_process::{ExecProcess, ProcessChanges};
pub use features::features;
pub use inherited::Inherited;
pub use kill::parse_signal;
pub use state::{State, Status};

use store::Store;

/// The containers of one state directory.
#[derive(Debug)]
pub struct Runtime {
    store: Store,
}

impl Runtime {
    /// The containers in `root`, which is made when the first one is.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { store: Store::new(root.into()) }
    }

    /// The ids of all containers, whatever state they are in.
    ///
    /// # Errors
    /// When the state directory cannot be read; that it is not there is no error.
    pub fn ids(&self) -> Result<Vec<String>, RuntimeError> {
        self.store.ids()
    }

    /// Creates the container: its init has everything set up and waits to be started, whoever does that.
    ///
    /// # Errors
    /// See [`RuntimeError`]; whatever was made by then is removed again.
    pub fn create(&self, id: &str, options: Create) -> Result<Created, RuntimeError> {
        create::create(&self.store, id, options)
    }

    /// Creates the container, starts it, and waits for its end; then deletes it. `started` is called with the pid once
    /// the program runs. Returns the exit status as a shell gives it.
    ///
    /// # Errors
    /// See [`RuntimeError`]; the container is deleted then as well.
    pub fn run(&self, id: &str, options: Create, started: impl FnOnce(i32)) -> Result<i32, RuntimeError> {
        create::run(&self.store, id, options, started)
    }

    /// Has the container's program executed.
    ///
    /// # Errors
    /// When it was started before, has ended, or its program cannot be executed.
    pub fn start(&self, id: &str) -> Result<(), RuntimeError> {
        start::start(&self.store.open(id)?)
    }

    /// Executes a further program in the container and, unless it is to be detached, waits for its end. Returns the exit
    /// status as a shell gives it.
    ///
    /// # Errors
    /// When the container has ended or is paused, or the program cannot be executed.
    pub fn exec(&self, id: &str, options: Exec) -> Result<i32, RuntimeError> {
        exec::exec(&self.store.open(id)?, options)
    }

    /// What the container is and does.
    ///
    /// # Errors
    /// When there is none of this id.
    pub fn state(&self, id: &str) -> Result<State, RuntimeError> {
        state::state(&self.store.open(id)?)
    }

    /// Sends a signal, by number, to the container's first process, or to all its processes.
    ///
    /// # Errors
    /// When it has ended (with `all`, this is no error), or there is no such signal.
    pub fn kill(&self, id: &str, signal: i32, all: bool) -> Result<(), RuntimeError> {
        kill::kill(&self.store.open(id)?, signal, all)
    }

    /// Has all processes of the container stand still.
    ///
    /// # Errors
    /// When it does not run, or one of them cannot be stopped; they go on then.
    pub fn pause(&self, id: &str) -> Result<(), RuntimeError> {
        pause::pause(&self.store.open(id)?)
    }

    /// Has them go on.
    ///
    /// # Errors
    /// When it is not paused.
    pub fn resume(&self, id: &str) -> Result<(), RuntimeError> {
        pause::resume(&self.store.open(id)?)
    }

    /// Lays these limits, in the shape of `linux.resources`, over those that the container has.
    ///
    /// # Errors
    /// When it has ended, or a limit cannot be had.
    pub fn update(&self, id: &str, resources: serde_json::Value) -> Result<(), RuntimeError> {
        update::update(&self.store.open(id)?, resources)
    }

    /// What the container has used so far.
    ///
    /// # Errors
    /// When it has ended.
    pub fn usage(&self, id: &str) -> Result<crate::cgroup::Usage, RuntimeError> {
        events::usage(&self.store.open(id)?)
    }

    /// Tells what happens to the container until it ends, or `tell` answers that nobody listens any more; its figures at
    /// once and after each `interval`.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn watch(
        &self,
        id: &str,
        interval: Duration,
        tell: impl FnMut(Event) -> bool,
    ) -> Result<(), RuntimeError> {
        events::watch(&self.store.open(id)?, interval, tell)
    }

    /// The ids of the container's processes, in the caller's pid namespace.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn processes(&self, id: &str) -> Result<Vec<i32>, RuntimeError> {
        processes::processes(&self.store.open(id)?)
    }

    /// Deletes what a container that has ended leaves; with `force`, ends it first.
    ///
    /// # Errors
    /// When it has not ended, without `force`.
    pub fn delete(&self, id: &str, force: bool) -> Result<(), RuntimeError> {
        delete::delete(&self.store.open(id)?, force)
    }
}
