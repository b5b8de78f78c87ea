//! The two ways to run an instance, behind one interface.
//!
//! A model carves what the instance needs and starts its app; what it hands back is a [`Running`], which the monitor's
//! loop polls. It speaks in the messages of [`agent::protocol`] whichever model it is: a container is its own agent.

mod container;
mod limits;
mod vm;

use std::os::fd::BorrowedFd;

use agent::protocol::{FromAgent, ToAgent};
use image::Image;
use rustix::event::PollFlags;

use crate::{engine::Engine, error::Result, events::Events, instance::Instance, spec::Model};

/// What a model starts from.
pub(crate) struct Start<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) instance: &'a Instance,
    pub(crate) image: &'a Image,
    pub(crate) events: &'a mut Events,
}

/// A started instance, as the monitor's loop sees it.
pub(crate) trait Running {
    /// The descriptors to wait for. While output is held, the app's output is left where it is.
    fn interests(&self, hold_output: bool) -> Vec<(BorrowedFd<'_>, PollFlags)>;

    /// Does what can be done without waiting, and says what happened. `Exited` or `Failed` comes last.
    ///
    /// # Errors
    /// When the instance cannot go on.
    fn advance(&mut self, hold_output: bool, events: &mut Events) -> Result<Vec<FromAgent>>;

    /// Passes on what a client wants.
    ///
    /// # Errors
    /// When the instance cannot go on.
    fn tell(&mut self, message: ToAgent) -> Result<()>;

    /// The pid of the container's init on the host.
    fn init_pid(&self) -> Option<u32>;

    /// Ends what still runs and removes what was carved. Called once, however the instance ended.
    ///
    /// # Errors
    /// When something could not be removed.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Starts an instance by its model.
pub(crate) fn start(start: Start<'_>) -> Result<Box<dyn Running>> {
    match start.instance.spec.model {
        Model::Container => container::start(start),
        Model::Vm => vm::start(start),
    }
}
