//! From the tap to the guest (virtio 1.2, section 5.1.6.4).
//!
//! Buffers are taken from the queue ahead of the frame, enough for the largest one, and the frame is read
//! right into them; those it did not need wait for the next. While the guest has too few, nothing is read
//! from the tap.

use std::collections::VecDeque;
use std::io;

use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use vm_memory::Permissions;

use crate::virtio::chain::Chain;
use crate::virtio::device::QueuePosition;
use crate::virtio::net::counts::Counts;
use crate::virtio::net::offloads;
use crate::virtio::net::tap::{FrameIo, HEADER_SIZE};
use crate::virtio::rate_limit::RateLimiter;
use crate::virtio::segments::{Segments, SegmentsError};
use crate::virtio::virtqueue::{BUDGET, VirtQueue};

/// Header and largest frame when the host may pass on whole segments: 64 KiB and an Ethernet header.
pub const MAX_FRAME: usize = HEADER_SIZE + 14 + 65536;
/// Where the header counts the buffers that a frame takes.
const NUM_BUFFERS_OFFSET: usize = 10;

/// Why receiving has stopped for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The tap has no more frames, or others shall have their turn: wait for the tap.
    Drained,
    /// The guest has too few buffers, or the tap is broken: wait for the guest.
    Starved,
    /// The rate limit is used up: wait for its timer.
    Throttled,
}

/// A buffer that was taken from the queue and is still empty.
#[derive(Debug)]
struct Posted {
    head: u16,
    space: Segments,
}

/// Why a frame does not reach the guest.
#[derive(Debug, thiserror::Error)]
enum Dropped {
    #[error("the guest has no room for it")]
    NoRoom,
    #[error("the guest's buffers: {0}")]
    Buffers(#[from] SegmentsError),
}

/// The receiving half of the card.
#[derive(Debug)]
pub struct Receiver {
    queue: VirtQueue,
    posted: VecDeque<Posted>,
    /// Total size of `posted`, in bytes.
    capacity: usize,
    /// A frame may take several buffers.
    mergeable: bool,
    /// Bytes that the largest frame takes, header included.
    largest: usize,
}

impl Receiver {
    /// A receiver for frames of at most `mtu` bytes, or of 64 KiB if the guest takes segments.
    pub fn new(queue: VirtQueue, features: u64, mtu: u16) -> Self {
        let segments = offloads::takes_segments(features);
        let largest = if segments { MAX_FRAME } else { HEADER_SIZE + 14 + usize::from(mtu) };
        let mergeable = features & (1 << VIRTIO_NET_F_MRG_RXBUF) != 0;
        Self { queue, posted: VecDeque::new(), capacity: 0, mergeable, largest }
    }

    /// Where the queue stands if the buffers that are still empty were put back.
    pub fn position(&self) -> QueuePosition {
        let position = self.queue.position();
        let posted = u16::try_from(self.posted.len()).unwrap_or_default();
        QueuePosition { next_available: position.next_available.wrapping_sub(posted), ..position }
    }

    /// Makes the event loop come back to the queue.
    pub fn wake(&self) {
        self.queue.wake();
    }

    /// Moves frames from the tap to the guest, as far as the limit admits them.
    pub fn receive(&mut self, tap: &impl FrameIo, limit: &mut RateLimiter, counts: &mut Counts) -> Stopped {
        let mut returned = false;
        let stopped = self.receive_some(tap, limit, counts, &mut returned);
        if returned {
            self.queue.signal();
        }
        stopped
    }

    fn receive_some(
        &mut self,
        tap: &impl FrameIo,
        limit: &mut RateLimiter,
        counts: &mut Counts,
        returned: &mut bool,
    ) -> Stopped {
        for _ in 0..BUDGET {
            if !self.post_enough(returned) {
                counts.no_rx_avail_buffer += 1;
                return Stopped::Starved;
            }
            // A frame's length is known only once it was taken from the tap.
            if !limit.may_admit(0) {
                counts.rx.throttled += 1;
                return Stopped::Throttled;
            }
            let length = match self.read_frame(tap) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Stopped::Drained,
                Err(error) => {
                    tracing::warn!(%error, "cannot receive from a tap");
                    counts.tap_read_fails += 1;
                    return Stopped::Starved;
                }
            };
            let frame = length.saturating_sub(HEADER_SIZE);
            limit.charge(frame as u64);
            match self.deliver(length) {
                Ok(()) => {
                    *returned = true;
                    counts.rx.passed(frame);
                }
                Err(reason) => {
                    tracing::debug!(length, %reason, "dropped a frame for the guest");
                    counts.rx.fails += 1;
                }
            }
        }
        Stopped::Drained
    }

    /// Takes buffers from the queue until the largest frame fits. A driver whose whole ring is smaller than
    /// that gets the frames that do fit.
    fn post_enough(&mut self, returned: &mut bool) -> bool {
        self.queue.pause_notifications();
        while !self.is_enough() {
            match self.queue.pop() {
                Some(chain) => *returned |= self.post(chain),
                None if self.posted.len() == usize::from(self.queue.size()) => break,
                None if self.queue.resume_notifications() => self.queue.pause_notifications(),
                None => return false,
            }
        }
        true
    }

    fn is_enough(&self) -> bool {
        self.capacity >= self.largest || (!self.mergeable && !self.posted.is_empty())
    }

    /// Keeps a buffer for a frame to come, or returns it at once if none can go there. True if it was
    /// returned.
    fn post(&mut self, chain: Chain) -> bool {
        let least = if self.mergeable { HEADER_SIZE + 1 } else { self.largest };
        let in_memory = || chain.writable.slices(self.queue.memory(), Permissions::Write).is_ok();
        if chain.defect.is_some() || chain.writable.len() < least || !in_memory() {
            tracing::debug!(head = chain.head, defect = ?chain.defect, "useless receive buffer");
            self.queue.add_used(chain.head, 0);
            return true;
        }
        self.capacity += chain.writable.len();
        self.posted.push_back(Posted { head: chain.head, space: chain.writable });
        false
    }

    /// Reads a frame into the buffers and returns its length, header included.
    fn read_frame(&self, tap: &impl FrameIo) -> io::Result<usize> {
        let mut slices = Vec::new();
        for buffer in &self.posted {
            slices.extend(buffer.space.slices(self.queue.memory(), Permissions::Write)?);
        }
        match tap.receive(&slices)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => Ok(length),
        }
    }

    /// Returns the buffers that the frame lies in, the header saying how many.
    fn deliver(&mut self, length: usize) -> Result<(), Dropped> {
        let cut_off = length == self.capacity && length < self.largest;
        if length <= HEADER_SIZE || cut_off {
            return Err(Dropped::NoRoom);
        }
        let mut rest = length;
        let mut count: u16 = 0;
        for buffer in &self.posted {
            if rest == 0 {
                break;
            }
            rest = rest.saturating_sub(buffer.space.len());
            count += 1;
        }
        if let Some(first) = self.posted.front() {
            let mut field = first.space.clone();
            field.take_front(NUM_BUFFERS_OFFSET);
            field.copy_from(self.queue.memory(), &count.to_le_bytes())?;
        }
        let mut rest = length;
        for Posted { head, space } in self.posted.drain(..usize::from(count)) {
            let filled = rest.min(space.len());
            self.capacity -= space.len();
            rest -= filled;
            self.queue.add_used(head, u32::try_from(filled).unwrap_or(u32::MAX));
        }
        Ok(())
    }
}
