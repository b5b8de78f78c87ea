//! The socket of the API: the only part that waits.
//!
//! One thread polls the listener, the clients, the guest's end and whoever may end the server. Nobody is waited for: a
//! client that does not read its answer is not read from, and one that does not finish its request is cut off.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::controller::Controller;
use super::http::{CONTINUE, Connection, HttpError, Response, Status, Step};
use crate::cpu::CpuError;
use crate::machine::VmExit;

/// Clients at a time; Firecracker takes ten.
const MAX_CLIENTS: usize = 10;
/// How long a client may take for one request, or to read an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often metrics are written.
const METRICS_EVERY: Duration = Duration::from_secs(60);

/// Why the server ended without being told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The guest died, or the host failed it.
    #[error(transparent)]
    Guest(#[from] CpuError),
    /// The socket.
    #[error("the control socket failed: {0}")]
    Socket(#[from] io::Error),
}

/// Why the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// The guest ended.
    Guest(VmExit),
    /// It was told to before there was a guest.
    Nothing,
}

/// One client.
struct Client {
    stream: UnixStream,
    connection: Connection,
    /// What it has not read yet.
    output: Vec<u8>,
    /// When its request, or the answer that it is reading, began.
    since: Instant,
    /// Nothing more is read from it.
    closing: bool,
}

impl Client {
    fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let connection = Connection::default();
        Ok(Self { stream, connection, output: Vec::new(), since: Instant::now(), closing: false })
    }

    fn wants(&self) -> PollFlags {
        if self.output.is_empty() { PollFlags::IN } else { PollFlags::OUT }
    }

    /// When to stop waiting for it; clients between two requests may take their time.
    fn deadline(&self) -> Option<Instant> {
        (self.connection.is_amid() || !self.output.is_empty()).then(|| self.since + PATIENCE)
    }

    /// Reads and writes what goes without waiting; whether it is still there.
    fn serve(&mut self, controller: &mut Controller) -> bool {
        if self.deadline().is_none() {
            self.since = Instant::now();
        }
        if self.output.is_empty() {
            let mut bytes = vec![0; self.connection.room().min(8 << 10)];
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(len) => self.connection.feed(&bytes[..len]),
                Err(error) => return is_patient(&error),
            }
        }
        loop {
            if !self.write() {
                return false;
            }
            if !self.output.is_empty() {
                return true;
            }
            if self.closing {
                return false;
            }
            match self.connection.next() {
                Step::More => return true,
                Step::Continue => self.output.extend(CONTINUE),
                Step::Request(request) => {
                    let response = controller.answer(&request);
                    self.since = Instant::now();
                    self.closing = request.closes;
                    self.output.extend(response.to_bytes(self.closing));
                }
                Step::Failed(error) => {
                    self.closing = true;
                    let status = match error {
                        HttpError::Body(_) | HttpError::Head => Status::TooLarge,
                        _ => Status::BadRequest,
                    };
                    self.output.extend(Response::fault(status, &error.to_string()).to_bytes(true));
                }
            }
        }
    }

    /// Writes what goes; whether the client is still there.
    fn write(&mut self) -> bool {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(len) => drop(self.output.drain(..len)),
                Err(error) => return is_patient(&error),
            }
        }
        true
    }
}

fn is_patient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Serves `listener` until the guest has ended, or until `stop` is readable, which ends the guest.
pub(super) fn serve(
    listener: &UnixListener,
    controller: &mut Controller,
    stop: BorrowedFd<'_>,
) -> Result<Served, ServeError> {
    listener.set_nonblocking(true)?;
    let mut clients: Vec<Client> = Vec::new();
    let mut next_metrics = Instant::now() + METRICS_EVERY;
    let mut stopping = false;
    loop {
        let ready = wait(listener, controller, stop.as_fd(), &clients, next_metrics, stopping)?;
        if ready.stop && !stopping {
            stopping = true;
            match controller.guest() {
                Some(guest) => guest.stop(),
                None => return Ok(Served::Nothing),
            }
        }
        let mut ready_clients = ready.clients.into_iter();
        clients.retain_mut(|client| {
            if ready_clients.next().unwrap_or(false) {
                client.serve(controller)
            } else {
                client.deadline().is_none_or(|deadline| Instant::now() < deadline)
            }
        });
        if ready.listener {
            accept(listener, &mut clients);
        }
        if let Some(guest) = controller.guest_mut()
            && let Some(exit) = guest.outcome()?
        {
            return Ok(Served::Guest(exit));
        }
        if Instant::now() >= next_metrics {
            next_metrics = Instant::now() + METRICS_EVERY;
            if controller.has_metrics()
                && let Err(error) = controller.flush_metrics()
            {
                tracing::warn!(%error, "metrics are late");
            }
        }
    }
}

/// What there is to do.
struct Ready {
    listener: bool,
    stop: bool,
    /// Of each client.
    clients: Vec<bool>,
}

fn wait(
    listener: &UnixListener,
    controller: &Controller,
    stop: BorrowedFd<'_>,
    clients: &[Client],
    next_metrics: Instant,
    stopping: bool,
) -> io::Result<Ready> {
    let fds = clients.iter().map(|client| PollFd::new(&client.stream, client.wants()));
    let mut fds: Vec<PollFd<'_>> = fds.collect();
    let watched = fds.len();
    // One that has said its word is not asked again: it would not let anybody sleep.
    fds.push(PollFd::from_borrowed_fd(stop, if stopping { PollFlags::empty() } else { PollFlags::IN }));
    fds.push(PollFd::new(listener, PollFlags::IN));
    fds.extend(controller.guest().map(|guest| PollFd::from_borrowed_fd(guest.exit_fd(), PollFlags::IN)));
    let now = Instant::now();
    let deadlines = clients.iter().filter_map(Client::deadline);
    let left = deadlines.fold(next_metrics, Instant::min).saturating_duration_since(now);
    // Rounded up, or the last millisecond would be spent in a hurry.
    let timeout = Timespec::try_from(left + Duration::from_millis(1)).ok();
    if let Err(error) = poll(&mut fds, timeout.as_ref())
        && error != rustix::io::Errno::INTR
    {
        return Err(error.into());
    }
    let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
    Ok(Ready {
        clients: fds[..watched].iter().map(is_ready).collect(),
        stop: is_ready(&fds[watched]),
        listener: is_ready(&fds[watched + 1]),
    })
}

fn accept(listener: &UnixListener, clients: &mut Vec<Client>) {
    let mut client = match listener.accept().and_then(|(stream, _)| Client::new(stream)) {
        Ok(client) => client,
        Err(error) => {
            if !is_patient(&error) {
                tracing::warn!(%error, "a client of the control socket is lost");
            }
            return;
        }
    };
    if clients.len() < MAX_CLIENTS {
        clients.push(client);
        return;
    }
    let message = format!("{MAX_CLIENTS} clients are connected already; try again later");
    client.output = Response::fault(Status::Unavailable, &message).to_bytes(true);
    client.write();
}

#[cfg(test)]
mod tests;
