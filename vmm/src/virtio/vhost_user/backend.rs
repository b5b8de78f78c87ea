//! What this side asks of a backend: what it can do, and to start and stop its queues.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use vm_memory::GuestMemoryRegion;

use super::connection::Connection;
use super::message::{self, PROTOCOL_FEATURES, Request, protocol};
use super::{PATIENCE, VhostUserError};
use crate::memory::layout::RamRange;
use crate::memory::{self, GuestMemory};
use crate::sys::inherited;
use crate::virtio::virtqueue::VirtQueue;

/// A backend at the other end of a connection.
#[derive(Debug)]
pub(super) struct Backend {
    connection: Connection,
    socket: PathBuf,
    /// What it offers.
    features: u64,
    /// What it and this side have in common.
    protocol: u64,
}

/// What the answer to a request is.
enum Answer {
    /// A body of its own.
    Body,
    /// At most an acknowledgement.
    Acknowledgement,
}

impl Backend {
    /// Connects to a backend and finds out what it can do.
    ///
    /// # Errors
    /// Nobody listens there, or not a backend.
    pub(super) fn connect(socket: &Path) -> Result<Self, VhostUserError> {
        let connection = Connection::open(socket)?;
        let deadline = Instant::now() + PATIENCE;
        let mut backend = Self { connection, socket: socket.into(), features: 0, protocol: 0 };
        backend.tell(Request::SetOwner, &[], &[], deadline)?;
        backend.features = backend.ask_long(Request::GetFeatures, deadline)?;
        if backend.features & PROTOCOL_FEATURES == 0 {
            return Err(backend.lacks("protocol features"));
        }
        let known = protocol::MQ | protocol::REPLY_ACK | protocol::CONFIG;
        let common = backend.ask_long(Request::GetProtocolFeatures, deadline)? & known;
        backend.tell(Request::SetProtocolFeatures, &message::longs([common]), &[], deadline)?;
        backend.protocol = common;
        Ok(backend)
    }

    /// The virtio features that it offers.
    pub(super) fn features(&self) -> u64 {
        self.features & !PROTOCOL_FEATURES
    }

    /// Checks that it has so many queues.
    ///
    /// # Errors
    /// It has fewer, or does not say.
    pub(super) fn check_queues(&self, wanted: usize) -> Result<(), VhostUserError> {
        if self.protocol & protocol::MQ == 0 {
            return Ok(());
        }
        let available = self.ask_long(Request::GetQueueNum, Instant::now() + PATIENCE)?;
        if available < wanted as u64 { Err(self.lacks("so many queues")) } else { Ok(()) }
    }

    /// The first `len` bytes of the config space.
    ///
    /// # Errors
    /// It has none, or does not say.
    pub(super) fn config(&self, len: usize) -> Result<Vec<u8>, VhostUserError> {
        if self.protocol & protocol::CONFIG == 0 {
            return Err(self.lacks("a config space"));
        }
        let asked = message::config_request(len);
        let head = asked.len() - len;
        let answer = self.ask(Request::GetConfig, &asked, &[], Answer::Body, Instant::now() + PATIENCE)?;
        match answer.get(head..) {
            Some(config) if config.len() == len && answer.starts_with(&asked[..head]) => Ok(config.to_vec()),
            _ => Err(VhostUserError::Garbage(Request::GetConfig)),
        }
    }

    /// Has it serve `queues` in `memory`, with the driver's `features`, and signal `call` for returned buffers.
    ///
    /// # Errors
    /// It refuses, does not answer in time or is gone; or the memory cannot be shared.
    pub(super) fn start(
        &self,
        memory: &GuestMemory,
        queues: &[VirtQueue],
        features: u64,
        call: BorrowedFd<'_>,
    ) -> Result<(), VhostUserError> {
        let deadline = Instant::now() + PATIENCE;
        if features & !self.features != 0 {
            return Err(self.lacks("features that it had when the machine was built"));
        }
        self.tell(Request::SetFeatures, &message::longs([features | PROTOCOL_FEATURES]), &[], deadline)?;
        let (table, files) = shared_memory(memory)?;
        self.tell(Request::SetMemTable, &message::memory_table(&table), &files, deadline)?;
        for (index, queue) in (0u32..).zip(queues) {
            let at = queue.addresses();
            let addresses = message::queue_addresses(index, at.descriptors, at.used, at.available);
            let state = |value: u16| message::queue_state(index, value.into());
            self.tell(Request::SetVringNum, &state(queue.size()), &[], deadline)?;
            self.tell(Request::SetVringBase, &state(queue.position().next_available), &[], deadline)?;
            self.tell(Request::SetVringAddr, &addresses, &[], deadline)?;
            self.tell(Request::SetVringCall, &message::longs([index.into()]), &[call], deadline)?;
            let kick = inherited::duplicate(queue.notification().as_raw_fd())?;
            self.tell(Request::SetVringKick, &message::longs([index.into()]), &[kick.as_fd()], deadline)?;
        }
        for index in (0u32..).zip(queues).map(|(index, _)| index) {
            self.tell(Request::SetVringEnable, &message::queue_state(index, 1), &[], deadline)?;
        }
        // One that does not acknowledge shows here at the latest that it has kept up.
        self.ask_long(Request::GetFeatures, deadline).map(|_| ())
    }

    /// Has it stop serving its first `count` queues: it touches no memory of theirs afterwards.
    ///
    /// # Errors
    /// It does not answer in time or is gone.
    pub(super) fn stop(&self, count: u32) -> Result<(), VhostUserError> {
        let deadline = Instant::now() + PATIENCE;
        for index in 0..count {
            self.tell(Request::SetVringEnable, &message::queue_state(index, 0), &[], deadline)?;
            let asked = message::queue_state(index, 0);
            let answer = self.ask(Request::GetVringBase, &asked, &[], Answer::Body, deadline)?;
            if answer.len() != asked.len() {
                return Err(VhostUserError::Garbage(Request::GetVringBase));
            }
        }
        Ok(())
    }

    /// Whether there is something to read from it, or its end.
    pub(super) fn is_ready(&self) -> bool {
        self.connection.is_ready()
    }

    /// The descriptor that is ready when it says something unasked, or is gone.
    pub(super) fn raw_fd(&self) -> RawFd {
        self.connection.as_fd().as_raw_fd()
    }

    /// The connection, to be closed by whoever watches it.
    pub(super) fn into_fd(self) -> OwnedFd {
        self.connection.into_socket().into()
    }

    /// A request without an answer, but for an acknowledgement.
    fn tell(
        &self,
        request: Request,
        body: &[u8],
        descriptors: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<(), VhostUserError> {
        self.ask(request, body, descriptors, Answer::Acknowledgement, deadline).map(|_| ())
    }

    /// A request that is answered by a 64-bit number.
    fn ask_long(&self, request: Request, deadline: Instant) -> Result<u64, VhostUserError> {
        let answer = self.ask(request, &[], &[], Answer::Body, deadline)?;
        let number = answer.try_into().map_err(|_| VhostUserError::Garbage(request))?;
        Ok(u64::from_le_bytes(number))
    }

    fn ask(
        &self,
        request: Request,
        body: &[u8],
        descriptors: &[BorrowedFd<'_>],
        answer: Answer,
        deadline: Instant,
    ) -> Result<Vec<u8>, VhostUserError> {
        let acknowledge =
            matches!(answer, Answer::Acknowledgement) && self.protocol & protocol::REPLY_ACK != 0;
        self.connection.send(
            request,
            &message::message(request, acknowledge, body),
            descriptors,
            deadline,
        )?;
        match answer {
            Answer::Body => self.connection.receive(request, deadline),
            Answer::Acknowledgement if !acknowledge => Ok(Vec::new()),
            Answer::Acknowledgement => match self.connection.receive(request, deadline)? {
                done if done == [0; 8] => Ok(Vec::new()),
                refused if refused.len() == 8 => Err(VhostUserError::Refused(request)),
                _ => Err(VhostUserError::Garbage(request)),
            },
        }
    }

    fn lacks(&self, what: &'static str) -> VhostUserError {
        VhostUserError::Lacks { socket: self.socket.clone(), what }
    }
}

/// A range of RAM and where it begins in its file, for each region, and their files in the same order.
type Table<'a> = (Vec<(RamRange, u64)>, Vec<BorrowedFd<'a>>);

/// RAM as a backend gets it. Image files of persistent memory are not part of it.
///
/// # Errors
/// It is not in a file that others can map.
pub(super) fn shared_memory(memory: &GuestMemory) -> Result<Table<'_>, VhostUserError> {
    let (mut table, mut files) = (Vec::new(), Vec::new());
    for region in memory::ram(memory) {
        let file = region.file_offset().filter(|_| is_shared(region)).ok_or(VhostUserError::NotShared)?;
        table.push((RamRange { base: region.start_addr().0, len: region.len() }, file.start()));
        files.push(file.file().as_fd());
    }
    Ok((table, files))
}

fn is_shared(region: &memory::Region) -> bool {
    region.flags() & libc::MAP_SHARED != 0
}
