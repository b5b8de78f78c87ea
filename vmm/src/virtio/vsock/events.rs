//! The event queue (virtio 1.2, section 5.10.6.7): how a guest learns that it goes on from a snapshot and that all of its
//! connections are gone.
//!
//! ```text
//!  quiet ──restore──► owed ──a buffer──► told ──the buffer is back──► quiet
//!                      │                  ▲
//!                      └──none yet──► waiting
//! ```
//!
//! The guest resets its sockets when it reads the event, in its own time. A connection made before that would be reset
//! with the rest, so nothing is to happen while the event is on its way ([`EventQueue::holds`]). A guest says that it
//! has read it by giving the buffer back; Linux does so afterwards. To a guest that has given no buffer nothing can be
//! told: it finds out by the answers to what it sends.

use crate::memory::GuestMemory;
use crate::virtio::chain::Chain;
use crate::virtio::virtqueue::VirtQueue;

/// VIRTIO_VSOCK_EVENT_TRANSPORT_RESET.
const TRANSPORT_RESET: u32 = 0;
/// Bytes of an event.
const EVENT_BYTES: u32 = 4;

/// How far the guest has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is nothing to tell.
    Quiet,
    /// There is, and whether the guest has given a buffer has not been looked at yet.
    Owed,
    /// There is, as soon as the guest gives a buffer.
    Waiting,
    /// The event is in the guest's buffer; back then the guest had made buffers up to this index available.
    Told(u16),
}

/// The event queue of an active device.
#[derive(Debug)]
pub struct EventQueue {
    queue: VirtQueue,
    phase: Phase,
}

impl EventQueue {
    /// With nothing to tell.
    pub fn new(queue: VirtQueue) -> Self {
        Self { queue, phase: Phase::Quiet }
    }

    /// The queue, for its position.
    pub fn queue(&self) -> &VirtQueue {
        &self.queue
    }

    /// The guest must hear that its connections are gone. The next notification, which the caller sees to, tells it.
    pub fn owe_reset(&mut self) {
        self.phase = Phase::Owed;
    }

    /// Whether connections must wait until the guest has read the event.
    pub fn holds(&self) -> bool {
        matches!(self.phase, Phase::Owed | Phase::Told(_))
    }

    /// The guest has added buffers. Returns true if what was held may go on now.
    pub fn process(&mut self) -> bool {
        let held = self.holds();
        match self.phase {
            Phase::Quiet => {}
            Phase::Owed | Phase::Waiting => self.phase = self.tell(),
            Phase::Told(available) if self.queue.notify_of_next() != available => self.phase = Phase::Quiet,
            Phase::Told(_) => {}
        }
        held && !self.holds()
    }

    fn tell(&mut self) -> Phase {
        // Before the event: the guest may be quick.
        let mut available = self.queue.notify_of_next();
        while let Some(chain) = self.queue.pop() {
            let head = chain.head;
            let written = fill(self.queue.memory(), chain);
            self.queue.add_used(head, written);
            self.queue.signal();
            if written > 0 {
                return Phase::Told(available);
            }
            available = self.queue.notify_of_next();
        }
        Phase::Waiting
    }
}

/// Writes the event into a buffer; 0 if it does not fit there.
fn fill(memory: &GuestMemory, chain: Chain) -> u32 {
    let event = TRANSPORT_RESET.to_le_bytes();
    let fits = chain.defect.is_none() && chain.writable.copy_from(memory, &event).is_ok();
    if fits { EVENT_BYTES } else { 0 }
}
