//! What becomes of a request: executed on the [`Disk`], counted, and answered with a status byte. Holds nothing of the
//! driver's but what it has negotiated.

use std::io;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP,
};

use crate::memory::GuestMemory;
use crate::virtio::block::counters::Counters;
use crate::virtio::block::disk::{BlockError, Disk};
use crate::virtio::block::disk_config::{CacheMode, DiskConfig};
use crate::virtio::block::request::{Operation, Range, Request};
use crate::virtio::chain::Chain;
use crate::virtio::rate_limit::RateLimiter;
use crate::virtio::segments::Segments;

const ID_SIZE: usize = VIRTIO_BLK_ID_BYTES as usize;

/// The disk as requests see it.
#[derive(Debug)]
pub(super) struct Model {
    id: [u8; ID_SIZE],
    pub(super) disk: Disk,
    pub(super) cache: CacheMode,
    pub(super) limiter: RateLimiter,
    pub(super) counters: Counters,
    /// The driver will not flush, so that writes are durable when they are answered (virtio 1.2, section 5.2.6.2).
    pub(super) write_through: bool,
}

/// What is to be done with a chain.
#[derive(Debug)]
pub(super) enum Taken {
    /// Return it, with so many bytes written.
    Answered(u32),
    /// Execute this, and put the status here.
    Work(Operation, Segments),
    /// Put it back: it has to wait for the rate limit.
    NotNow,
}

/// What a request has done, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    In,
    Out,
    Flush,
    GetId,
    Discard,
    WriteZeroes,
}

impl Model {
    pub(super) fn open(config: &DiskConfig) -> Result<Self, BlockError> {
        let mut id = [0; ID_SIZE];
        let length = config.id.len().min(ID_SIZE);
        id[..length].copy_from_slice(&config.id.as_bytes()[..length]);
        let no_timer = |source| BlockError::Descriptors { path: config.path.clone(), source };
        Ok(Self {
            id,
            disk: Disk::open(config)?,
            cache: config.cache,
            limiter: RateLimiter::new(&config.rate_limiter).map_err(no_timer)?,
            counters: Counters::default(),
            write_through: false,
        })
    }

    /// Parses the request in a chain, answers one that makes no sense, and asks the rate limit about others.
    pub(super) fn take(&mut self, memory: &GuestMemory, chain: Chain) -> Taken {
        let Request { operation, status } = Request::parse(memory, chain);
        let invalid = match (operation, status) {
            (Ok(Operation::Unsupported(kind)), Some(status)) => {
                tracing::debug!(kind, "unsupported block request");
                answer(memory, &status, VIRTIO_BLK_S_UNSUPP, 0)
            }
            (Ok(operation), Some(status)) => {
                if self.limiter.admit(operation.bytes()) {
                    return Taken::Work(operation, status);
                }
                self.counters.rate_limiter_throttled_events += 1;
                return Taken::NotNow;
            }
            (Err(error), Some(status)) => {
                tracing::debug!(%error, "malformed block request");
                answer(memory, &status, VIRTIO_BLK_S_IOERR, 0)
            }
            (_, None) => {
                tracing::debug!("a block request without a place for its status");
                0
            }
        };
        self.counters.invalid_reqs_count += 1;
        Taken::Answered(invalid)
    }

    /// Executes a request and answers it. Returns the bytes written to the guest, as the used ring wants them.
    pub(super) fn execute(&mut self, memory: &GuestMemory, operation: Operation, status: &Segments) -> u32 {
        let bytes = operation.bytes();
        let (kind, bytes, result) = match operation {
            Operation::In { sector, data } => (Kind::In, bytes, self.disk.read(memory, sector, data)),
            Operation::Out { sector, data } => {
                let written = self.disk.write(memory, sector, data);
                (Kind::Out, bytes, written.and_then(|()| self.write_through()))
            }
            Operation::Flush => (Kind::Flush, 0, self.flush()),
            Operation::GetId { data } => {
                (Kind::GetId, data.len().min(ID_SIZE) as u64, self.write_id(memory, &data))
            }
            Operation::Discard(ranges) => {
                let bytes = ranges.iter().map(Range::bytes).sum();
                (Kind::Discard, bytes, self.disk.discard(&ranges))
            }
            Operation::WriteZeroes(ranges) => {
                let zeroed = self.disk.write_zeroes(&ranges);
                (Kind::WriteZeroes, bytes, zeroed.and_then(|()| self.write_through()))
            }
            // Answered when it was taken.
            Operation::Unsupported(_) => return answer(memory, status, VIRTIO_BLK_S_UNSUPP, 0),
        };
        self.conclude(memory, kind, bytes, result, status)
    }

    /// Counts what was done with `bytes` and answers it.
    pub(super) fn conclude(
        &mut self,
        memory: &GuestMemory,
        kind: Kind,
        bytes: u64,
        result: io::Result<()>,
        status: &Segments,
    ) -> u32 {
        if let Err(error) = result {
            tracing::debug!(%error, ?kind, "block request failed");
            self.counters.execute_fails += 1;
            return answer(memory, status, VIRTIO_BLK_S_IOERR, 0);
        }
        self.counters.add(kind, bytes);
        let filled = if matches!(kind, Kind::In | Kind::GetId) { bytes } else { 0 };
        answer(memory, status, VIRTIO_BLK_S_OK, u32::try_from(filled).unwrap_or(u32::MAX - 1))
    }

    /// Whether a flush has something to do.
    pub(super) fn flushes(&self) -> bool {
        self.cache == CacheMode::Writeback && !self.disk.read_only()
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        if self.flushes() { self.disk.flush() } else { Ok(()) }
    }

    /// What follows a write where the driver does not flush.
    pub(super) fn write_through(&self) -> io::Result<()> {
        if self.write_through { self.flush() } else { Ok(()) }
    }

    fn write_id(&self, memory: &GuestMemory, data: &Segments) -> io::Result<()> {
        Ok(data.copy_from(memory, &self.id[..data.len().min(ID_SIZE)])?)
    }
}

/// Writes the status byte. Returns all bytes written to the guest, `filled` of them before.
fn answer(memory: &GuestMemory, place: &Segments, status: u32, filled: u32) -> u32 {
    match place.copy_from(memory, &status.to_le_bytes()[..1]) {
        Ok(()) => filled + 1,
        Err(error) => {
            tracing::debug!(%error, "nowhere to put the status of a block request");
            0
        }
    }
}
