//! What a container is and does (runtime specification, "State").

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde::Serialize;

use super::error::RuntimeError;
use super::record::Record;
use super::store::Entry;
use crate::channel::CreatorEnd;

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// A command is creating it.
    Creating,
    /// Its program has not been executed yet.
    Created,
    /// Its program runs.
    Running,
    /// Its program is frozen.
    Paused,
    /// Its program has ended, or never came to be.
    Stopped,
}

/// What `state` tells: the specification's fields, and those that runc adds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The specification's version that the configuration follows.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// Its first process in the caller's pid namespace; 0 once that has ended.
    pub pid: i32,
    /// Where it is in its life.
    pub status: Status,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The root filesystem's directory.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339.
    pub created: String,
    /// The user id of who created it.
    pub owner: u32,
    /// The configuration's annotations.
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub annotations: HashMap<String, String>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// What the container is and does now.
pub(super) fn state(entry: &Entry) -> Result<State, RuntimeError> {
    let Some(record) = entry.record()? else { return Ok(unfinished(entry)) };
    let status = status(entry, &record)?;
    Ok(with_status(record, status))
}

/// The state of a container that is recorded, with what is known of its status.
pub(super) fn with_status(record: Record, status: Status) -> State {
    let alive = !matches!(status, Status::Stopped | Status::Creating);
    State {
        pid: record.init.filter(|_| alive).map_or(0, |init| init.pid),
        oci_version: record.oci_version,
        id: record.id,
        status,
        bundle: record.bundle,
        rootfs: record.rootfs,
        created: record.created,
        owner: record.owner,
        annotations: record.annotations,
    }
}

/// Where the container is in its life: asked of the kernel each time.
pub(super) fn status(entry: &Entry, record: &Record) -> Result<Status, RuntimeError> {
    let Some(init) = record.init else {
        return Ok(if entry.is_locked() { Status::Creating } else { Status::Stopped });
    };
    if !init.is_alive() {
        return Ok(Status::Stopped);
    }
    if entry.cgroup(record)?.is_frozen()? {
        return Ok(Status::Paused);
    }
    Ok(if connect_to_init(entry)?.is_some() { Status::Created } else { Status::Running })
}

/// A connection to an init that waits to be started; `None` when none does any more.
pub(super) fn connect_to_init(entry: &Entry) -> Result<Option<CreatorEnd>, RuntimeError> {
    let path = entry.start_socket();
    let connected = SocketAddrUnix::new(&path).and_then(|address| {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &address)?;
        Ok(socket)
    });
    match connected {
        Ok(socket) => Ok(Some(CreatorEnd::of_connection(socket))),
        // The socket was closed when the program was executed; a container that `run` created never had one.
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(None),
        Err(errno) => Err(RuntimeError::file(path, errno)),
    }
}

/// One whose creation was cut off, or goes on, before anything was written down.
fn unfinished(entry: &Entry) -> State {
    State {
        oci_version: crate::SPEC_VERSION.to_owned(),
        id: entry.id.clone(),
        pid: 0,
        status: if entry.is_locked() { Status::Creating } else { Status::Stopped },
        bundle: PathBuf::new(),
        rootfs: PathBuf::new(),
        created: String::new(),
        owner: rustix::process::getuid().as_raw(),
        annotations: HashMap::new(),
    }
}
