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
#[cfg(test)]
mod openapi_tests;
mod route;
mod server;
mod start_events;

use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

pub use client::{Client, ClientError};
pub use controller::{LogControl, Options};
pub use description::Description;
pub use error::{ApiError, RequestError};
pub use guest::Restore;
pub use server::{ServeError, Served};

use crate::config::VmConfig;
use crate::events::EventSink;
use crate::machine::RunningVm;
use controller::Controller;
use guest::Machines;
use start_events::StartEvents;

/// Takes `bytes` as what a client sends, up to what its requests ask for.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let mut connection = http::Connection::default();
    for piece in bytes.chunks(1 << 12) {
        connection.feed(piece);
        loop {
            match connection.next() {
                http::Step::More | http::Step::Failed(_) => break,
                http::Step::Continue => {}
                http::Step::Request(request) => drop(route::parse(&request)),
            }
        }
    }
}

/// What the API begins with.
pub enum Begin {
    /// Nothing: clients describe a machine and start it.
    Empty,
    /// This machine is started at once.
    Start(Box<Description>),
    /// The same, described otherwise.
    Boot(Box<VmConfig>),
    /// The machine of a snapshot, which goes on at once if `resume` says so.
    Restore {
        /// Where it is.
        from: Box<Restore>,
        /// Let the guest go on.
        resume: bool,
    },
    /// This machine, which runs already.
    Running(Box<RunningVm>),
}

/// Serves the API on `listener`, if there is one, in the calling thread, until the guest has ended. When `stop` becomes
/// readable, the guest is ended. Boot events of machines that are started here go to `events`.
///
/// # Errors
/// The guest dies, what it begins with cannot be started, or the host fails.
pub fn serve(
    listener: Option<&UnixListener>,
    begin: Begin,
    options: Options,
    events: Arc<dyn EventSink>,
    stop: BorrowedFd<'_>,
) -> Result<Served, ServeError> {
    let (start, confine) = (StartEvents::before(events), options.confine);
    let mut controller =
        Controller::new(options, Box::new(Machines { events: start.clone(), confine }), start);
    match begin {
        Begin::Empty => {}
        Begin::Start(description) => {
            controller.configure_all(*description)?;
            controller.start()?;
        }
        Begin::Boot(config) => controller.boot(&config)?,
        Begin::Restore { from, resume } => controller.restore(*from, resume)?,
        Begin::Running(running) => controller.adopt(running),
    }
    server::serve(listener, &mut controller, stop)
}
