//! All connections of one vsock device, and which of them have something to say to the guest.
//!
//! The muxer takes packets from the guest ([`Muxer::consume`]), fills the guest's buffers
//! ([`Muxer::produce`]), and is told which host sockets are ready. It never waits, and everything it holds is
//! bounded.

use std::collections::{HashMap, VecDeque};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use event_manager::EventSet;

use crate::memory::GuestMemory;
use crate::virtio::device::Watch;
use crate::virtio::segments::Segments;
use crate::virtio::vsock::connection::{Connection, Fate, Ports};
use crate::virtio::vsock::counts::Counts;
use crate::virtio::vsock::header::{HEADER_BYTES, HEADER_SIZE, HOST_CID, Header, Op, STREAM};
use crate::virtio::vsock::host_socket::{self, Handshake};

/// Connections and waiting clients at one time. Each may hold 64 KiB that the host does not take.
pub const MAX_CONNECTIONS: usize = 1024;
/// RSTs owed to the guest; while there are so many, its packets wait.
const MAX_RESETS: usize = 256;
/// Most data in one packet, in bytes.
const MAX_DATA: u32 = 64 * 1024;
/// Host ports of connections that the host opened start here, as in Firecracker.
const FIRST_HOST_PORT: u32 = 1 << 30;
/// Tokens below this are the device's.
const FIRST_TOKEN: u32 = 16;

/// Why a packet of the guest's was dropped.
#[derive(Debug, thiserror::Error)]
enum Dropped {
    #[error("its buffers: {0}")]
    Buffers(#[from] crate::virtio::segments::SegmentsError),
    #[error("it announces {announced} bytes and has {present}")]
    Length { announced: u32, present: usize },
    #[error("it claims to come from CID {0}")]
    Source(u64),
}

/// A RST for which there is no connection.
#[derive(Clone, Copy, Debug)]
struct Reset {
    ports: Ports,
    dst_cid: u64,
    kind: u16,
}

/// The connections.
#[derive(Debug)]
pub struct Muxer {
    guest_cid: u32,
    path: PathBuf,
    connections: HashMap<u32, Connection>,
    tokens: HashMap<Ports, u32>,
    /// Clients that have not said CONNECT yet.
    clients: HashMap<u32, UnixStream>,
    /// Connections with something to say, in turn.
    talkers: VecDeque<u32>,
    resets: VecDeque<Reset>,
    watches: Vec<Watch>,
    next_token: u32,
    next_port: u32,
    counts: Counts,
}

impl Muxer {
    /// No connections yet. Host programs wait for the guest at `<path>_<port>`.
    pub fn new(guest_cid: u32, path: PathBuf) -> Self {
        Self {
            guest_cid,
            path,
            connections: HashMap::new(),
            tokens: HashMap::new(),
            clients: HashMap::new(),
            talkers: VecDeque::new(),
            resets: VecDeque::new(),
            watches: Vec::new(),
            next_token: FIRST_TOKEN,
            next_port: FIRST_HOST_PORT,
            counts: Counts::default(),
        }
    }

    /// Changes to what is watched, since last asked.
    pub fn take_watches(&mut self) -> Vec<Watch> {
        std::mem::take(&mut self.watches)
    }

    /// What has happened so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The host's port that the next client is given, unless it is in use.
    pub fn next_host_port(&self) -> u32 {
        self.next_port
    }

    /// Goes on with another port; one that is not for clients is taken for the first.
    pub fn set_next_host_port(&mut self, port: u32) {
        self.next_port = port.max(FIRST_HOST_PORT);
    }

    /// Connections and waiting clients.
    pub fn count(&self) -> usize {
        self.connections.len() + self.clients.len()
    }

    /// Drops everything. The streams are closed once they are watched no more.
    pub fn clear(&mut self) {
        self.counts.removed += self.connections.len() as u64;
        let streams = self.connections.drain().map(|(_, connection)| connection.into_stream());
        let streams = streams.chain(self.clients.drain().map(|(_, stream)| stream));
        self.watches.extend(streams.map(|stream| Watch::Close(stream.into())));
        self.tokens.clear();
        self.talkers.clear();
        self.resets.clear();
    }

    // The host's side.

    /// A client has connected to the device's socket.
    pub fn add_client(&mut self, stream: UnixStream) {
        if self.count() >= MAX_CONNECTIONS {
            tracing::warn!(limit = MAX_CONNECTIONS, "too many vsock connections; refused one from the host");
            self.counts.refused += 1;
            return;
        }
        let token = self.watch(&stream);
        self.clients.insert(token, stream);
    }

    /// A host stream is ready.
    pub fn on_stream(&mut self, token: u32, ready: EventSet) {
        if self.clients.contains_key(&token) {
            self.shake_hands(token);
        }
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let closed = EventSet::HANG_UP | EventSet::ERROR;
        let mut fate = Fate::Continues;
        if ready.intersects(EventSet::IN | EventSet::READ_HANG_UP | closed) {
            fate = connection.on_readable(ready.intersects(closed));
        }
        if fate == Fate::Continues && ready.intersects(EventSet::OUT | closed) {
            fate = connection.on_writable();
        }
        self.settle(token, fate);
    }

    fn shake_hands(&mut self, token: u32) {
        let Some(mut stream) = self.clients.remove(&token) else { return };
        match host_socket::handshake(&mut stream) {
            Handshake::Incomplete => {
                self.clients.insert(token, stream);
            }
            Handshake::Refused => self.watches.push(Watch::Close(stream.into())),
            Handshake::Connect(guest) => {
                let ports = Ports { host: self.unused_host_port(guest), guest };
                self.insert(token, Connection::from_host(ports, stream));
            }
        }
    }

    fn unused_host_port(&mut self, guest: u32) -> u32 {
        // Ends: there are far fewer connections than ports.
        loop {
            let host = self.next_port;
            self.next_port = host.checked_add(1).unwrap_or(FIRST_HOST_PORT);
            if !self.tokens.contains_key(&Ports { host, guest }) {
                return host;
            }
        }
    }

    /// Watches a stream under a new token. Edge-triggered, so a stream that waits for the guest costs
    /// nothing.
    fn watch(&mut self, stream: &UnixStream) -> u32 {
        let token = loop {
            let token = self.next_token;
            self.next_token = if token + 1 < Watch::TOKENS { token + 1 } else { FIRST_TOKEN };
            if !self.connections.contains_key(&token) && !self.clients.contains_key(&token) {
                break token;
            }
        };
        let events = EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
        self.watches.push(Watch::Add { fd: stream.as_raw_fd(), token, events });
        token
    }

    fn insert(&mut self, token: u32, connection: Connection) {
        self.counts.added += 1;
        self.tokens.insert(connection.ports(), token);
        self.connections.insert(token, connection);
        self.settle(token, Fate::Continues);
    }

    /// Acts on what became of a connection.
    fn settle(&mut self, token: u32, fate: Fate) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if fate == Fate::Continues {
            if !connection.queued && connection.wants_to_send() {
                connection.queued = true;
                self.talkers.push_back(token);
            }
            return;
        }
        let ports = connection.ports();
        self.counts.removed += 1;
        if fate == Fate::Broken {
            self.counts.killed += 1;
            self.resets.push_back(Reset { ports, dst_cid: HOST_CID, kind: STREAM });
        }
        self.tokens.remove(&ports);
        if let Some(connection) = self.connections.remove(&token) {
            self.watches.push(Watch::Close(connection.into_stream().into()));
        }
    }

    // From the guest.

    /// Whether the guest's packets must wait until it has taken some of ours.
    pub fn is_overloaded(&self) -> bool {
        self.resets.len() >= MAX_RESETS
    }

    /// Takes a packet of the guest's.
    pub fn consume(&mut self, memory: &GuestMemory, packet: Segments) {
        match self.try_consume(memory, packet) {
            Ok(bytes) => {
                self.counts.tx_packets += 1;
                self.counts.tx_bytes += u64::from(bytes);
            }
            Err(reason) => self.drop_malformed(reason),
        }
    }

    /// Counts a packet that nothing is done about.
    pub fn drop_malformed(&mut self, reason: impl std::fmt::Display) {
        tracing::debug!(%reason, "dropped a vsock packet");
        self.counts.tx_malformed += 1;
    }

    /// Returns the bytes of data in the packet.
    fn try_consume(&mut self, memory: &GuestMemory, mut packet: Segments) -> Result<u32, Dropped> {
        let mut bytes = [0; HEADER_SIZE];
        packet.take_front(HEADER_SIZE).copy_to(memory, &mut bytes)?;
        let header = Header::parse(&bytes);
        if header.len > MAX_DATA || header.len as usize > packet.len() {
            return Err(Dropped::Length { announced: header.len, present: packet.len() });
        }
        if header.src_cid != u64::from(self.guest_cid) {
            return Err(Dropped::Source(header.src_cid));
        }
        let data = packet.take_front(header.len as usize);
        let ports = Ports { host: header.dst_port, guest: header.src_port };
        let op = Op::from_number(header.op);
        let understood = op.filter(|_| header.dst_cid == HOST_CID && header.kind == STREAM);
        match (understood, self.tokens.get(&ports).copied()) {
            (Some(op), Some(token)) => {
                if let Some(connection) = self.connections.get_mut(&token) {
                    let fate = connection.on_packet(&header, op, data, memory);
                    self.settle(token, fate);
                }
            }
            (Some(Op::Request), None) => self.connect(ports, &header),
            _ if op == Some(Op::Reset) => {}
            _ => self.resets.push_back(Reset { ports, dst_cid: header.dst_cid, kind: header.kind }),
        }
        Ok(header.len)
    }

    fn connect(&mut self, ports: Ports, request: &Header) {
        let refuse = |muxer: &mut Self| {
            muxer.resets.push_back(Reset { ports, dst_cid: HOST_CID, kind: STREAM });
        };
        if self.count() >= MAX_CONNECTIONS {
            tracing::debug!(
                limit = MAX_CONNECTIONS,
                "too many vsock connections; refused one from the guest"
            );
            self.counts.refused += 1;
            return refuse(self);
        }
        match host_socket::connect(&self.path, ports.host) {
            Ok(stream) => {
                let token = self.watch(&stream);
                self.insert(token, Connection::from_guest(ports, stream, request));
            }
            Err(error) => {
                tracing::debug!(%error, port = ports.host, "nobody on the host takes this vsock connection");
                refuse(self);
            }
        }
    }

    // To the guest.

    /// Whether there is, or may be, something to say to the guest.
    pub fn has_something(&self) -> bool {
        !self.resets.is_empty() || !self.talkers.is_empty()
    }

    /// Fills one buffer of the guest's. Returns the bytes written, or `None` if the next in turn had nothing
    /// to say. A buffer that cannot be filled is returned empty.
    pub fn produce(&mut self, memory: &GuestMemory, mut room: Segments) -> Option<u32> {
        let place = room.take_front(HEADER_SIZE);
        if let Some(&reset) = self.resets.front() {
            let mut header = self.header_to(reset.ports, Op::Reset);
            (header.src_cid, header.kind) = (reset.dst_cid, reset.kind);
            if place.copy_from(memory, &header.to_bytes()).is_err() {
                return Some(0);
            }
            self.resets.pop_front();
            self.counts.rx_packets += 1;
            return Some(HEADER_BYTES);
        }
        // Checked before anything is taken from a stream: what has been read cannot be put back.
        if room.is_empty() || place.copy_from(memory, &[0; HEADER_SIZE]).is_err() {
            return Some(0);
        }
        let token = self.talkers.pop_front()?;
        let connection = self.connections.get_mut(&token)?;
        connection.queued = false;
        let ports = connection.ports();
        let outgoing = connection.next_outgoing(room, memory);
        let written = match outgoing {
            Ok(Some(outgoing)) => {
                let mut header = self.header_to(ports, outgoing.op);
                (header.flags, header.len) = (outgoing.flags, outgoing.len);
                if let Some(connection) = self.connections.get_mut(&token) {
                    connection.tell_credit(&mut header);
                }
                // The place was written to a moment ago.
                let _ = place.copy_from(memory, &header.to_bytes());
                self.counts.rx_packets += 1;
                self.counts.rx_bytes += u64::from(outgoing.len);
                Some(HEADER_BYTES + outgoing.len)
            }
            Ok(None) => None,
            Err(_) => Some(0),
        };
        self.settle(token, Fate::Continues);
        written
    }

    fn header_to(&self, ports: Ports, op: Op) -> Header {
        Header {
            src_cid: HOST_CID,
            dst_cid: u64::from(self.guest_cid),
            src_port: ports.host,
            dst_port: ports.guest,
            kind: STREAM,
            op: op as u16,
            ..Header::default()
        }
    }
}
