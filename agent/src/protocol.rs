//! The messages between the engine and the agent, one frame each, over one vsock connection.
//!
//! The agent connects to the host ([`HOST_CID`], [`ENGINE_PORT`]) as soon as it runs and says [`FromAgent::Ready`].
//! The engine answers with [`ToAgent::Start`]; from then on output flows up and input and signals flow down until
//! [`FromAgent::Exited`] or [`FromAgent::Failed`], after which the agent powers the machine off.
//!
//! A frame is a little-endian `u32` length of what follows, one byte of kind, and the payload: raw bytes for
//! stdin, stdout and stderr, JSON for everything else. Both ends treat the other as hostile: a frame longer than
//! [`MAX_FRAME`] or of an unknown kind is an error, never an allocation.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// The context id of the host in vsock addressing (virtio spec 1.2, section 5.10.4).
pub const HOST_CID: u32 = 2;
/// The vsock port on which the engine waits for the agent.
pub const ENGINE_PORT: u32 = 1024;
/// The longest frame either side accepts, in bytes (kind and payload).
pub const MAX_FRAME: usize = 1 << 20;
/// Bytes of a frame before its payload: the length and the kind.
pub const HEADER: usize = 5;
/// Output and input are cut into pieces of at most this many bytes.
pub const CHUNK: usize = 32 << 10;

/// What the engine tells the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToAgent {
    /// Set the machine up and run the app.
    Start(Box<Start>),
    /// Bytes for the app's standard input.
    Stdin(Vec<u8>),
    /// The app's standard input ends here.
    CloseStdin,
    /// Send this signal number to the app.
    Signal(i32),
    /// Answer with [`FromAgent::Stats`].
    Stats,
    /// End the app and power off.
    Shutdown,
}

/// What the agent tells the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromAgent {
    /// The agent runs and waits for [`ToAgent::Start`].
    Ready,
    /// The app runs, with this process id inside the guest.
    Started(u32),
    /// Bytes the app wrote to standard output.
    Stdout(Vec<u8>),
    /// Bytes the app wrote to standard error.
    Stderr(Vec<u8>),
    /// The app ended: its exit code, or 128 + the signal that ended it.
    Exited(i32),
    /// The app could not be run.
    Failed(Failure),
    /// The answer to [`ToAgent::Stats`].
    Stats(GuestStats),
}

/// Everything the agent needs to run one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Host time in nanoseconds since the Unix epoch, to set the guest's clock by; 0 leaves the clock alone.
    pub time_ns: u64,
    /// The guest's host name.
    pub hostname: String,
    /// The disks that make up the app's root file system.
    pub root: RootDisks,
    /// The app's network, if it has one beside loopback.
    pub network: Option<Network>,
    /// Address and name pairs for `/etc/hosts`, beside localhost.
    pub hosts: Vec<(String, String)>,
    /// Contents of `/etc/resolv.conf`; empty leaves the image's file alone.
    pub resolv_conf: String,
    /// The app.
    pub process: Process,
}

/// The app's root file system, as indices of virtio-blk devices in the order they were given to the VMM (0 is
/// `/dev/vda`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootDisks {
    /// Read-only EROFS layers, the base layer first.
    pub layers: Vec<u32>,
    /// The ext4 disk that holds the thin read-write layer (directories `upper` and `work`, made when absent).
    pub writable: u32,
}

/// Addresses of the guest's one network interface (`eth0`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// IPv4 address.
    pub address: std::net::Ipv4Addr,
    /// Length of the network prefix, in bits.
    pub prefix: u8,
    /// Default gateway.
    pub gateway: std::net::Ipv4Addr,
    /// Largest transmission unit, in bytes.
    pub mtu: u16,
}

/// The process to run, as in the OCI runtime spec's `process`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments; the program is looked up in the `PATH` of `env`.
    pub args: Vec<String>,
    /// `NAME=value` strings.
    pub env: Vec<String>,
    /// Working directory; made when absent, as Docker does.
    pub cwd: String,
    /// User as in the image config: `name`, `uid`, `name:group` or `uid:gid`; empty for root.
    pub user: String,
}

/// Why the app could not be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// 127 when the program was not found, 126 when it cannot be executed, 125 for the rest.
    pub exit_code: i32,
    /// One line for people.
    pub message: String,
}

/// The guest's own view of its memory, in bytes (from `/proc/meminfo`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestStats {
    /// `MemTotal`.
    pub total: u64,
    /// `MemFree`.
    pub free: u64,
    /// `Cached` + `Buffers`.
    pub page_cache: u64,
    /// `AnonPages`.
    pub anon: u64,
    /// `Slab` + `KernelStack` + `PageTables`.
    pub kernel: u64,
    /// Resident bytes of the agent itself.
    pub agent: u64,
}

/// One end's messages as frames.
pub trait Message: Sized {
    /// The frame's kind byte and payload.
    fn encode(&self) -> (u8, Vec<u8>);
    /// The message in a frame.
    ///
    /// # Errors
    /// `InvalidData` when the kind is unknown or the payload is not what the kind holds.
    fn decode(kind: u8, payload: Vec<u8>) -> io::Result<Self>;
}

/// Writes one message as one frame in a single `write_all`.
///
/// # Errors
/// What the writer answers, or `InvalidInput` when the message is longer than [`MAX_FRAME`].
pub fn send<M: Message>(to: &mut impl Write, message: &M) -> io::Result<()> {
    let mut frame = Vec::new();
    append(&mut frame, message)?;
    to.write_all(&frame)
}

/// Appends one message as one frame to bytes that are sent later.
///
/// # Errors
/// `InvalidInput` when the message is longer than [`MAX_FRAME`]; nothing is appended then.
pub fn append<M: Message>(to: &mut Vec<u8>, message: &M) -> io::Result<()> {
    let (kind, payload) = message.encode();
    let header = header(kind, payload.len())?;
    to.reserve(header.len() + payload.len());
    to.extend_from_slice(&header);
    to.extend_from_slice(&payload);
    Ok(())
}

/// The first bytes of a frame: its length and its kind.
///
/// # Errors
/// `InvalidInput` when kind and payload are longer than [`MAX_FRAME`].
pub fn header(kind: u8, payload_len: usize) -> io::Result<[u8; HEADER]> {
    let length = payload_len.saturating_add(1);
    if length > MAX_FRAME {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("message of {length} bytes is too long"),
        ));
    }
    let [a, b, c, d] = u32::try_from(length).expect("MAX_FRAME fits in a u32").to_le_bytes();
    Ok([a, b, c, d, kind])
}

/// Reads one message; `None` when the other end closed between two frames.
///
/// # Errors
/// What the reader answers, `UnexpectedEof` in the middle of a frame, `InvalidData` for a frame that is too long,
/// empty or not understood.
pub fn receive<M: Message>(from: &mut impl Read) -> io::Result<Option<M>> {
    let mut length = [0; 4];
    let mut got = 0;
    while got < length.len() {
        match from.read(&mut length[got..]) {
            Ok(0) if got == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let length = frame_length(length)?;
    let mut kind = [0; 1];
    from.read_exact(&mut kind)?;
    let mut payload = vec![0; length - 1];
    from.read_exact(&mut payload)?;
    M::decode(kind[0], payload).map(Some)
}

/// The message at the front of `bytes`, with the bytes it takes; `None` while it is not all there.
///
/// # Errors
/// `InvalidData` for a frame that is too long, empty or not understood, as soon as its length is known.
pub fn parse<M: Message>(bytes: &[u8]) -> io::Result<Option<(M, usize)>> {
    let Some((length, rest)) = bytes.split_first_chunk() else {
        return Ok(None);
    };
    let length = frame_length(*length)?;
    match rest.get(..length).and_then(<[u8]>::split_first) {
        Some((&kind, payload)) => Ok(Some((M::decode(kind, payload.to_vec())?, 4 + length))),
        None => Ok(None),
    }
}

fn frame_length(bytes: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(bytes) as usize;
    if length == 0 || length > MAX_FRAME {
        return Err(invalid(format!("frame of {length} bytes")));
    }
    Ok(length)
}

impl Message for ToAgent {
    fn encode(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Start(start) => (b'S', json(start)),
            Self::Stdin(bytes) => (b'i', bytes.clone()),
            Self::CloseStdin => (b'c', Vec::new()),
            Self::Signal(number) => (b'k', json(number)),
            Self::Stats => (b's', Vec::new()),
            Self::Shutdown => (b'q', Vec::new()),
        }
    }

    fn decode(kind: u8, payload: Vec<u8>) -> io::Result<Self> {
        Ok(match kind {
            b'S' => Self::Start(from_json(&payload)?),
            b'i' => Self::Stdin(payload),
            b'c' => Self::CloseStdin,
            b'k' => Self::Signal(from_json(&payload)?),
            b's' => Self::Stats,
            b'q' => Self::Shutdown,
            _ => return Err(invalid(format!("unknown frame kind {kind:#x} to the agent"))),
        })
    }
}

impl FromAgent {
    /// The frame kind of [`FromAgent::Stdout`], for whoever builds the frame around the bytes in place.
    pub const STDOUT: u8 = b'o';
    /// The frame kind of [`FromAgent::Stderr`].
    pub const STDERR: u8 = b'e';
}

impl Message for FromAgent {
    fn encode(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Ready => (b'R', Vec::new()),
            Self::Started(pid) => (b'P', json(pid)),
            Self::Stdout(bytes) => (Self::STDOUT, bytes.clone()),
            Self::Stderr(bytes) => (Self::STDERR, bytes.clone()),
            Self::Exited(code) => (b'X', json(code)),
            Self::Failed(failure) => (b'F', json(failure)),
            Self::Stats(stats) => (b't', json(stats)),
        }
    }

    fn decode(kind: u8, payload: Vec<u8>) -> io::Result<Self> {
        Ok(match kind {
            b'R' => Self::Ready,
            b'P' => Self::Started(from_json(&payload)?),
            Self::STDOUT => Self::Stdout(payload),
            Self::STDERR => Self::Stderr(payload),
            b'X' => Self::Exited(from_json(&payload)?),
            b'F' => Self::Failed(from_json(&payload)?),
            b't' => Self::Stats(from_json(&payload)?),
            _ => return Err(invalid(format!("unknown frame kind {kind:#x} from the agent"))),
        })
    }
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("messages have string keys and no maps that fail")
}

fn from_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn round_trip<M: Message + PartialEq + std::fmt::Debug>(message: &M) {
        let mut bytes = Vec::new();
        send(&mut bytes, message).expect("sent");
        assert_eq!(receive::<M>(&mut bytes.as_slice()).expect("received").as_ref(), Some(message));
        let (parsed, used) = parse::<M>(&bytes).expect("parsed").expect("whole");
        assert_eq!((&parsed, used), (message, bytes.len()));
        for cut in 0..bytes.len().min(64) {
            assert!(parse::<M>(&bytes[..cut]).expect("not yet wrong").is_none(), "cut at {cut}");
        }
    }

    fn start() -> impl Strategy<Value = Start> {
        let network =
            proptest::option::of((any::<[u8; 4]>(), any::<u8>(), any::<[u8; 4]>(), any::<u16>()).prop_map(
                |(address, prefix, gateway, mtu)| Network {
                    address: address.into(),
                    prefix,
                    gateway: gateway.into(),
                    mtu,
                },
            ));
        let root = (vec(any::<u32>(), 0..4), any::<u32>())
            .prop_map(|(layers, writable)| RootDisks { layers, writable });
        let strings = || vec(any::<String>(), 0..4);
        let process = (strings(), strings(), any::<String>(), any::<String>())
            .prop_map(|(args, env, cwd, user)| Process { args, env, cwd, user });
        let hosts = vec((any::<String>(), any::<String>()), 0..3);
        (any::<u64>(), any::<String>(), root, network, hosts, any::<String>(), process).prop_map(
            |(time_ns, hostname, root, network, hosts, resolv_conf, process)| Start {
                time_ns,
                hostname,
                root,
                network,
                hosts,
                resolv_conf,
                process,
            },
        )
    }

    proptest! {
        #[test]
        fn messages_to_the_agent_survive_the_trip(start in start(), bytes in vec(any::<u8>(), 0..2000), n: i32) {
            let start = ToAgent::Start(Box::new(start));
            for message in [start, ToAgent::Stdin(bytes), ToAgent::CloseStdin, ToAgent::Signal(n), ToAgent::Stats,
                ToAgent::Shutdown]
            {
                round_trip(&message);
            }
        }

        #[test]
        fn messages_from_the_agent_survive_the_trip(
            bytes in vec(any::<u8>(), 0..2000), code: i32, pid: u32, message: String, sizes: [u64; 6],
        ) {
            let [total, free, page_cache, anon, kernel, agent] = sizes;
            let stats = GuestStats { total, free, page_cache, anon, kernel, agent };
            let failure = Failure { exit_code: code, message };
            for message in [FromAgent::Ready, FromAgent::Started(pid), FromAgent::Stdout(bytes.clone()),
                FromAgent::Stderr(bytes), FromAgent::Exited(code), FromAgent::Failed(failure),
                FromAgent::Stats(stats)]
            {
                round_trip(&message);
            }
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in vec(any::<u8>(), 0..300)) {
            let _ = parse::<ToAgent>(&bytes);
            let _ = parse::<FromAgent>(&bytes);
            let _ = receive::<FromAgent>(&mut bytes.as_slice());
        }
    }

    fn kind_of<T: std::fmt::Debug>(result: io::Result<T>) -> io::ErrorKind {
        result.expect_err("refused").kind()
    }

    #[test]
    fn frames_that_are_empty_or_too_long_are_refused_before_they_arrive() {
        for length in [0, u32::try_from(MAX_FRAME).expect("small") + 1, u32::MAX] {
            let bytes = length.to_le_bytes();
            assert_eq!(kind_of(parse::<ToAgent>(&bytes)), io::ErrorKind::InvalidData, "{length}");
            assert_eq!(kind_of(receive::<FromAgent>(&mut bytes.as_slice())), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn the_longest_frame_passes_and_one_byte_more_does_not() {
        round_trip(&ToAgent::Stdin(vec![7; MAX_FRAME - 1]));
        let mut sent = Vec::new();
        let refused = send(&mut sent, &ToAgent::Stdin(vec![7; MAX_FRAME]));
        assert_eq!((kind_of(refused), sent.len()), (io::ErrorKind::InvalidInput, 0));
    }

    #[test]
    fn unknown_kinds_are_refused() {
        let frame = [1, 0, 0, 0, b'?'];
        assert_eq!(kind_of(parse::<ToAgent>(&frame)), io::ErrorKind::InvalidData);
        assert_eq!(kind_of(parse::<FromAgent>(&frame)), io::ErrorKind::InvalidData);
    }

    #[test]
    fn payloads_of_another_shape_are_refused() {
        let frame = [3, 0, 0, 0, b'S', b'{', b'}'];
        assert_eq!(kind_of(parse::<ToAgent>(&frame)), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_stream_that_ends_between_frames_is_over_and_inside_one_is_broken() {
        let mut bytes = Vec::new();
        send(&mut bytes, &FromAgent::Started(7)).expect("sent");
        assert_eq!(receive::<FromAgent>(&mut [].as_slice()).expect("end"), None);
        for cut in 1..bytes.len() {
            let result = receive::<FromAgent>(&mut &bytes[..cut]);
            assert_eq!(kind_of(result), io::ErrorKind::UnexpectedEof, "cut at {cut}");
        }
    }
}
