//! One stream between a guest port and a Unix socket of the host.
//!
//! ```text
//!  host client said CONNECT ──► requested ──RESPONSE──► established ◄── guest REQUEST, answered RESPONSE
//!                                   │                     │     │
//!                     RST, or the client leaves       RST │     │ each side says when it will send or receive
//!                                   │                     │     │ no more (SHUTDOWN, end of file, EPIPE)
//!                                   ▼                     ▼     ▼
//!                                 over ◄──────────────── over ◄─ the guest shut down both and the host has all
//! ```
//!
//! A connection never blocks and never touches epoll. Readiness is edge-triggered: `readable` is set by an
//! event and cleared when a read would block. What is owed to the guest is remembered as state, so it costs
//! no memory however long the guest offers no buffers. Data for the host that it does not take yet is bounded
//! by the credit given.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::net::SendFlags;
use vm_memory::Permissions;

use crate::memory::GuestMemory;
use crate::sys::iovec;
use crate::virtio::segments::Segments;
use crate::virtio::vsock::credit::{BUFFER_SIZE, Credit};
use crate::virtio::vsock::header::{Header, Op, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use crate::virtio::vsock::host_socket;

/// Names a connection: the host's port and the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ports {
    /// The port at CID 2.
    pub host: u32,
    /// The port in the guest.
    pub guest: u32,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It does.
    Continues,
    /// It is over and the guest knows.
    Over,
    /// It is over and the guest must be told by a RST.
    Broken,
}

/// What a connection has to say to the guest; credit and addresses are added on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The operation.
    pub op: Op,
    /// Its flags.
    pub flags: u32,
    /// Bytes of data already placed in the guest's buffer.
    pub len: u32,
}

impl Outgoing {
    fn plain(op: Op) -> Self {
        Self { op, flags: 0, len: 0 }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    ports: Ports,
    stream: UnixStream,
    credit: Credit,
    /// REQUEST or RESPONSE, if the guest has not been sent it yet.
    greeting: Option<Op>,
    /// Data may flow.
    established: bool,
    /// Bytes from the guest that the host has not taken yet; at most [`BUFFER_SIZE`].
    to_host: VecDeque<u8>,
    /// The host's stream may have something to read.
    readable: bool,
    /// The host has closed the stream altogether.
    hung_up: bool,
    /// What our side does no more, and how much of that the guest has been told.
    shutdown: u32,
    shutdown_told: u32,
    /// What the guest does no more.
    guest_shutdown: u32,
    /// The host has been told that the guest sends no more.
    end_passed_on: bool,
    /// The guest has asked for our credit.
    credit_wanted: bool,
    /// The guest has been asked for its credit since it last told.
    credit_asked: bool,
    /// The muxer has this connection in its list of those with something to say.
    pub(super) queued: bool,
}

impl Connection {
    /// A host client wants the guest's port: the guest will be sent a REQUEST.
    pub fn from_host(ports: Ports, stream: UnixStream) -> Self {
        Self::new(ports, stream, Op::Request)
    }

    /// The guest has sent a REQUEST and `stream` is what it was connected to: it will be sent a RESPONSE.
    pub fn from_guest(ports: Ports, stream: UnixStream, request: &Header) -> Self {
        let mut connection = Self::new(ports, stream, Op::Response);
        connection.established = true;
        connection.credit.learn(request);
        connection
    }

    fn new(ports: Ports, stream: UnixStream, greeting: Op) -> Self {
        Self {
            ports,
            stream,
            credit: Credit::default(),
            greeting: Some(greeting),
            established: false,
            to_host: VecDeque::new(),
            // Data may have come before the stream was watched.
            readable: true,
            hung_up: false,
            shutdown: 0,
            shutdown_told: 0,
            guest_shutdown: 0,
            end_passed_on: false,
            credit_wanted: false,
            credit_asked: false,
            queued: false,
        }
    }

    /// The connection's name.
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// The host's stream, to be watched or closed.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Gives the stream up.
    pub fn into_stream(self) -> UnixStream {
        self.stream
    }

    /// Credit for an outgoing packet.
    pub fn tell_credit(&mut self, header: &mut Header) {
        self.credit.tell(header);
        self.credit_wanted = false;
    }

    /// The host's stream has become readable or was closed.
    pub fn on_readable(&mut self, hung_up: bool) -> Fate {
        self.readable = true;
        self.hung_up |= hung_up;
        if self.hung_up && self.shutdown & SHUTDOWN_SEND != 0 {
            self.shutdown = SHUTDOWN_BOTH;
        }
        if !self.established && host_socket::has_left(&self.stream) {
            // The guest may have got the REQUEST already; if not, it has nothing to be told.
            return if self.greeting.is_some() { Fate::Over } else { Fate::Broken };
        }
        Fate::Continues
    }

    /// The host's stream takes data again.
    pub fn on_writable(&mut self) -> Fate {
        while !self.to_host.is_empty() {
            let (front, _) = self.to_host.as_slices();
            match rustix::net::send(&self.stream, front, SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.to_host.drain(..count);
                    self.credit.taken(count);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.host_receives_no_more(),
            }
        }
        if self.to_host.is_empty() {
            self.to_host.shrink_to(0);
        }
        self.pass_guest_shutdown_on()
    }

    /// A packet from the guest, whose data is `data`.
    pub fn on_packet(&mut self, header: &Header, op: Op, data: Segments, memory: &GuestMemory) -> Fate {
        self.credit.learn(header);
        // Asked once: a guest that has no room answers so at once, and tells of room by itself later.
        self.credit_asked &= self.credit.available() == 0;
        match op {
            Op::Reset => Fate::Over,
            Op::Request => Fate::Broken,
            Op::Response => self.on_response(),
            _ if !self.established => Fate::Broken,
            Op::Data => self.on_data(data, memory),
            Op::Shutdown => {
                self.guest_shutdown |= header.flags & SHUTDOWN_BOTH;
                if self.guest_shutdown & SHUTDOWN_RECEIVE != 0 {
                    // What the host sends from now on fails there. It may have closed already.
                    let _ = self.stream.shutdown(Shutdown::Read);
                }
                self.pass_guest_shutdown_on()
            }
            Op::CreditRequest => {
                self.credit_wanted = true;
                Fate::Continues
            }
            Op::CreditUpdate => Fate::Continues,
        }
    }

    fn on_response(&mut self) -> Fate {
        if self.established || self.greeting.is_some() {
            return Fate::Broken;
        }
        self.established = true;
        // A few bytes to a client that has read nothing yet: they fit, or the client is not there any more.
        let answer = format!("OK {}\n", self.ports.host);
        match rustix::net::send(&self.stream, answer.as_bytes(), SendFlags::NOSIGNAL) {
            Ok(count) if count == answer.len() => Fate::Continues,
            _ => Fate::Broken,
        }
    }

    fn on_data(&mut self, mut data: Segments, memory: &GuestMemory) -> Fate {
        if self.guest_shutdown & SHUTDOWN_SEND != 0 || self.to_host.len() + data.len() > BUFFER_SIZE as usize
        {
            tracing::debug!(ports = ?self.ports, "the guest sent more than it may");
            return Fate::Broken;
        }
        if self.shutdown & SHUTDOWN_RECEIVE == 0 && self.to_host.is_empty() {
            let Ok(slices) = data.slices(memory, Permissions::Read) else { return Fate::Broken };
            match iovec::send(&self.stream, &slices) {
                Ok(count) => {
                    self.credit.taken(count);
                    data.take_front(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.host_receives_no_more(),
            }
        }
        if self.shutdown & SHUTDOWN_RECEIVE != 0 {
            // Nobody is there to read it; the guest learns that from our SHUTDOWN.
            self.credit.taken(data.len());
            return Fate::Continues;
        }
        let mut rest = vec![0; data.len()];
        if data.copy_to(memory, &mut rest).is_err() {
            return Fate::Broken;
        }
        self.to_host.extend(rest);
        Fate::Continues
    }

    fn host_receives_no_more(&mut self) {
        self.shutdown |= SHUTDOWN_RECEIVE;
        self.credit.taken(self.to_host.len());
        self.to_host.clear();
    }

    /// Once the host has everything, it hears of the end; once both directions have ended, so has the
    /// connection.
    fn pass_guest_shutdown_on(&mut self) -> Fate {
        if !self.to_host.is_empty() {
            return Fate::Continues;
        }
        if self.guest_shutdown == SHUTDOWN_BOTH {
            return Fate::Broken;
        }
        if self.guest_shutdown & SHUTDOWN_SEND != 0 && !self.end_passed_on {
            // Once: every call makes the stream ready again. The host may have closed already.
            self.end_passed_on = true;
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        Fate::Continues
    }

    fn may_read(&self) -> bool {
        self.established
            && self.readable
            && self.shutdown & SHUTDOWN_SEND == 0
            && self.guest_shutdown & SHUTDOWN_RECEIVE == 0
    }

    /// Whether there is, or may be, something to say to the guest.
    pub fn wants_to_send(&self) -> bool {
        self.greeting.is_some()
            || self.credit_wanted
            || self.credit.is_stale()
            || self.shutdown != self.shutdown_told
            || (self.may_read() && (self.credit.available() > 0 || !self.credit_asked))
    }

    /// The next thing to say to the guest, data placed in `room`; `None` if there is nothing after all.
    ///
    /// # Errors
    ///
    /// `room` is not in guest memory.
    pub fn next_outgoing(&mut self, room: Segments, memory: &GuestMemory) -> io::Result<Option<Outgoing>> {
        if let Some(op) = self.greeting.take() {
            return Ok(Some(Outgoing::plain(op)));
        }
        if self.may_read() {
            if self.credit.available() == 0 {
                if !self.credit_asked {
                    self.credit_asked = true;
                    return Ok(Some(Outgoing::plain(Op::CreditRequest)));
                }
            } else if let Some(len) = self.read(room, memory)? {
                return Ok(Some(Outgoing { op: Op::Data, flags: 0, len }));
            }
        }
        if self.shutdown != self.shutdown_told {
            self.shutdown_told = self.shutdown;
            return Ok(Some(Outgoing { op: Op::Shutdown, flags: self.shutdown, len: 0 }));
        }
        if self.credit_wanted || self.credit.is_stale() {
            return Ok(Some(Outgoing::plain(Op::CreditUpdate)));
        }
        Ok(None)
    }

    /// Reads from the host's stream into the guest's buffer; `None` if there is nothing or no more.
    fn read(&mut self, mut room: Segments, memory: &GuestMemory) -> io::Result<Option<u32>> {
        let room = room.take_front(self.credit.available().min(BUFFER_SIZE as usize));
        if room.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match iovec::read(&self.stream, &room.slices(memory, Permissions::Write)?) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(None)
            }
            Ok(count) if count > 0 => {
                // No more than BUFFER_SIZE was asked for.
                let count = u32::try_from(count).unwrap_or(BUFFER_SIZE);
                self.credit.sent(count);
                Ok(Some(count))
            }
            end => {
                let gone = self.hung_up || end.is_err();
                self.shutdown |= if gone { SHUTDOWN_BOTH } else { SHUTDOWN_SEND };
                Ok(None)
            }
        }
    }
}
