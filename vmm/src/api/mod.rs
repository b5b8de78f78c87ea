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
pub use controller::LogControl;
pub(crate) use controller::{Files, Options};
pub use description::Description;
pub use error::{ApiError, RequestError};
pub use guest::Restore;
pub(crate) use guest::{Machines, Walls};
pub(crate) use server::{ServeError, Served};
pub(crate) use start_events::StartEvents;

use crate::config::VmConfig;
use crate::machine::RunningVm;
use controller::Controller;
use guest::{Guest, Maker};

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

/// The API of one machine, at its socket.
pub(crate) struct Server {
    listener: UnixListener,
    controller: Controller,
}

impl Server {
    /// Will serve at `listener`. A machine that clients describe is made by `machines`; what has happened by then is in
    /// `start`.
    pub(crate) fn new(
        listener: UnixListener,
        options: Options,
        machines: Option<Machines>,
        start: Arc<StartEvents>,
    ) -> Self {
        let maker = machines.map(|machines| Box::new(machines) as Box<dyn Maker>);
        Self { listener, controller: Controller::new(options, maker, start) }
    }

    /// Serves this machine, which runs already.
    pub(crate) fn adopt(&mut self, running: RunningVm) {
        self.controller.adopt(Box::new(running));
    }

    /// The machine, once there is one.
    pub(crate) fn config(&self) -> Option<&VmConfig> {
        self.controller.guest().map(Guest::config)
    }

    /// Starts this machine, as if a client had described it.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(&mut self, description: Description) -> Result<(), ApiError> {
        self.controller.configure_all(description)?;
        self.controller.start()
    }

    /// Serves in the calling thread until the guest has ended. When `stop` becomes readable, the guest is ended.
    ///
    /// # Errors
    /// The guest dies, or the host fails.
    pub(crate) fn serve(&mut self, stop: BorrowedFd<'_>) -> Result<Served, ServeError> {
        server::serve(&self.listener, &mut self.controller, stop)
    }
}
