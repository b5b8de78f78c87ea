//! Those who speak with a monitor: the client that launched it, and whoever connects to the control socket.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
};

use agent::protocol::{FromAgent, ToAgent};
use rustix::{event::PollFlags, io::dup, stdio};

use super::is_for_the_app;
use crate::{
    error::{EngineError, Result},
    frames::Connection,
};

/// More clients than this at a time are turned away.
const MOST: usize = 64;

struct Client {
    connection: Connection,
    /// Whether it gets the app's output, or only answers to its questions.
    attached: bool,
}

/// All clients of a monitor.
pub(super) struct Clients {
    listener: UnixListener,
    clients: Vec<Client>,
}

/// Takes the launching client's connection and the lock from descriptors 0 and 1, and puts `/dev/null` there.
pub(super) fn take_descriptors() -> Result<(UnixStream, OwnedFd)> {
    let take = || -> io::Result<_> {
        let client = dup(stdio::stdin())?;
        let lock = dup(stdio::stdout())?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        stdio::dup2_stdin(&null)?;
        stdio::dup2_stdout(&null)?;
        for fd in [&client, &lock] {
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
        }
        Ok((client.into(), lock))
    };
    take().map_err(EngineError::file("take over the descriptors of", "the launching command"))
}

impl Clients {
    pub(super) fn new(socket: &Path, first: UnixStream) -> Result<Self> {
        let failed = |e| EngineError::file("make the control socket", socket)(e);
        let listener = UnixListener::bind(socket).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let connection = Connection::new(first).map_err(failed)?;
        Ok(Self { listener, clients: vec![Client { connection, attached: true }] })
    }

    /// Output that the slowest client has not taken yet, in bytes.
    pub(super) fn backlog(&self) -> usize {
        self.clients.iter().map(|c| c.connection.backlog()).max().unwrap_or(0)
    }

    pub(super) fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let flags = |c: &Client| {
            if c.connection.backlog() > 0 { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }
        };
        let mut interests = vec![(self.listener.as_fd(), PollFlags::IN)];
        interests.extend(self.clients.iter().map(|c| (c.connection.as_fd(), flags(c))));
        interests
    }

    /// Takes new clients, sends what waits, and answers what clients said. A client that closes or speaks nonsense
    /// is dropped; the instance lives on.
    pub(super) fn advance(&mut self) -> Vec<ToAgent> {
        while let Ok((stream, _)) = self.listener.accept() {
            if let (true, Ok(connection)) = (self.clients.len() < MOST, Connection::new(stream)) {
                self.clients.push(Client { connection, attached: false });
            }
        }
        let mut said = Vec::new();
        self.clients.retain_mut(|client| {
            let alive = hear(&mut client.connection, &mut said);
            if let Err(error) = &alive {
                tracing::warn!(%error, "dropping a client");
            }
            alive.unwrap_or(false)
        });
        said
    }

    /// Tells everyone whom it concerns.
    pub(super) fn broadcast(&mut self, message: &FromAgent) {
        let for_all = matches!(message, FromAgent::Stats(_));
        self.clients
            .retain_mut(|client| !(client.attached || for_all) || client.connection.send(message).is_ok());
    }

    /// The last message, to everyone; then all connections close.
    pub(super) fn finish(mut self, last: &FromAgent) {
        for client in &mut self.clients {
            // A client that is gone needs no last message.
            let _ = client.connection.send(last).and_then(|()| client.connection.finish());
        }
    }
}

/// Whether the client is still there.
fn hear(connection: &mut Connection, said: &mut Vec<ToAgent>) -> io::Result<bool> {
    connection.flush()?;
    connection.fill()?;
    while let Some(message) = connection.next::<ToAgent>()? {
        if is_for_the_app(&message) {
            said.push(message);
        }
    }
    Ok(!connection.at_end())
}
