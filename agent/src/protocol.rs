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
    /// Host time in nanoseconds since the Unix epoch, to set the guest's clock by.
    pub time_ns: u64,
    /// The guest's host name.
    pub hostname: String,
    /// The disks that make up the app's root file system.
    pub root: RootDisks,
    /// The app's network, if it has one beside loopback.
    pub network: Option<Network>,
    /// Address and name pairs for `/etc/hosts`, beside localhost.
    pub hosts: Vec<(String, String)>,
    /// Contents of `/etc/resolv.conf`.
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
    let (kind, payload) = message.encode();
    let length = payload.len() + 1;
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("message of {length} bytes is too long")));
    }
    let mut frame = Vec::with_capacity(4 + length);
    frame.extend_from_slice(&u32::try_from(length).expect("MAX_FRAME fits in a u32").to_le_bytes());
    frame.push(kind);
    frame.extend_from_slice(&payload);
    to.write_all(&frame)
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
    let length = u32::from_le_bytes(length) as usize;
    if length == 0 || length > MAX_FRAME {
        return Err(invalid(format!("frame of {length} bytes")));
    }
    let mut kind = [0; 1];
    from.read_exact(&mut kind)?;
    let mut payload = vec![0; length - 1];
    from.read_exact(&mut payload)?;
    M::decode(kind[0], payload).map(Some)
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

impl Message for FromAgent {
    fn encode(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Ready => (b'R', Vec::new()),
            Self::Started(pid) => (b'P', json(pid)),
            Self::Stdout(bytes) => (b'o', bytes.clone()),
            Self::Stderr(bytes) => (b'e', bytes.clone()),
            Self::Exited(code) => (b'X', json(code)),
            Self::Failed(failure) => (b'F', json(failure)),
            Self::Stats(stats) => (b't', json(stats)),
        }
    }

    fn decode(kind: u8, payload: Vec<u8>) -> io::Result<Self> {
        Ok(match kind {
            b'R' => Self::Ready,
            b'P' => Self::Started(from_json(&payload)?),
            b'o' => Self::Stdout(payload),
            b'e' => Self::Stderr(payload),
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
