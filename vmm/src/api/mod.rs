//! The control API: HTTP/1.1 on a Unix socket, with the paths and bodies of Firecracker's API, so that its clients drive
//! this VMM. `vmm/api/openapi.yaml` is its description, and a test compares the two.
//!
//! ```text
//!   bytes ─http─► Request ─route─► Action ─controller─► Response ─http─► bytes
//!                            │                │
//!                          model          guest, description
//!   └───────────────────────── server ────────────────────────────────────┘
//! ```
//!
//! All but [`server`] is without descriptors and threads. [`client`] is the other side, for our own commands.

mod action;
pub mod client;
mod controller;
mod description;
mod error;
#[cfg(test)]
mod fake;
mod guest;
mod http;
mod metrics;
pub mod model;
mod route;
mod server;

use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

pub use client::{Client, ClientError};
pub use controller::{LogControl, Options};
pub use description::Description;
pub use error::{ApiError, RequestError};
pub use server::{ServeError, Served};

use crate::events::EventSink;
use crate::machine::RunningVm;
use controller::Controller;

/// What the API begins with.
pub enum Begin {
    /// Nothing: clients describe a machine and start it.
    Empty,
    /// This machine is started at once.
    Start(Box<Description>),
    /// This machine, which runs already.
    Running(Box<RunningVm>),
}

/// Serves the API on `listener`, in the calling thread, until the guest has ended. When `stop` becomes readable, the
/// guest is ended. Boot events of machines that clients start go to `events`.
///
/// # Errors
/// The guest dies, what it begins with cannot be started, or the host fails.
pub fn serve(
    listener: &UnixListener,
    begin: Begin,
    options: Options,
    events: Arc<dyn EventSink>,
    stop: BorrowedFd<'_>,
) -> Result<Served, ServeError> {
    let mut controller = Controller::new(options, Box::new(guest::Machines(events)));
    match begin {
        Begin::Empty => {}
        Begin::Start(description) => {
            controller.configure_all(*description)?;
            controller.start()?;
        }
        Begin::Running(running) => controller.adopt(running),
    }
    server::serve(listener, &mut controller, stop)
}
