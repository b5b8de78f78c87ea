//! A live queue: the ring, the memory it lies in, the driver's notifications and the interrupt back.
//!
//! A ring whose indices or addresses make no sense cannot be served any more: the device then asks for a
//! reset, as virtio 1.2 section 2.1.2 wants it, and the queue yields nothing until that comes.

use std::num::Wrapping;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use virtio_queue::{Error as RingError, Queue, QueueOwnedT, QueueT};
use vmm_sys_util::eventfd::EventFd;

use crate::memory::GuestMemory;
use crate::virtio::chain::Chain;
use crate::virtio::device::QueuePosition;
use crate::virtio::interrupt::Interrupt;

/// The chains that one wake-up may take from a queue before other devices get their turn.
pub const BUDGET: usize = 256;

/// What has become of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// It goes back to the driver with so many bytes written.
    Done(u32),
    /// The device returns it later, with [`VirtQueue::add_used`].
    Kept,
    /// It stays in the queue, and serving stops.
    NotNow,
}

/// Where the parts of a queue are: guest physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueAddresses {
    /// The descriptor table.
    pub descriptors: u64,
    /// The available ring (the driver area).
    pub available: u64,
    /// The used ring (the device area).
    pub used: u64,
}

/// A queue of an activated device.
#[derive(Debug)]
pub struct VirtQueue {
    ring: Queue,
    memory: GuestMemory,
    notification: EventFd,
    interrupt: Arc<Interrupt>,
    broken: bool,
}

impl VirtQueue {
    /// A queue over a checked `ring` in `memory`; the driver's notifications arrive on `notification`.
    pub fn new(ring: Queue, memory: GuestMemory, notification: EventFd, interrupt: Arc<Interrupt>) -> Self {
        Self { ring, memory, notification, interrupt, broken: false }
    }

    /// The guest memory that chains of this queue point into.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// Where the queue stands. Chains that were taken and not returned lie before `next_available`.
    pub fn position(&self) -> QueuePosition {
        QueuePosition { next_available: self.ring.next_avail(), next_used: self.ring.next_used() }
    }

    /// Where its parts are.
    pub fn addresses(&self) -> QueueAddresses {
        QueueAddresses {
            descriptors: self.ring.desc_table(),
            available: self.ring.avail_ring(),
            used: self.ring.used_ring(),
        }
    }

    /// The event by which the driver notifies.
    pub fn notification(&self) -> &EventFd {
        &self.notification
    }

    /// The number of descriptors, chosen by the driver.
    pub fn size(&self) -> u16 {
        self.ring.size()
    }

    /// The next available chain.
    pub fn pop(&mut self) -> Option<Chain> {
        if self.broken {
            return None;
        }
        match self.ring.iter(&self.memory) {
            Ok(mut chains) => chains.next().map(Chain::parse),
            Err(error) => {
                self.fail(&error);
                None
            }
        }
    }

    /// Puts the chain that was popped last back, so that the next `pop` yields it again.
    pub fn undo_pop(&mut self) {
        self.ring.go_to_previous_position();
    }

    /// Returns a chain to the driver with `written` bytes filled in. Call [`Self::signal`] after the last of
    /// a batch.
    pub fn add_used(&mut self, head: u16, written: u32) {
        if let Err(error) = self.ring.add_used(&self.memory, head, written) {
            self.fail(&error);
        }
    }

    /// Interrupts the driver for the chains returned since the last call, unless it does not want that now.
    pub fn signal(&mut self) {
        if self.broken {
            return;
        }
        match self.ring.needs_notification(&self.memory) {
            Ok(true) => self.interrupt.used_buffers(),
            Ok(false) => {}
            Err(error) => self.fail(&error),
        }
    }

    /// Serves available chains: `serve` returns the bytes written, or `None` to put the chain back and stop.
    /// At most [`BUDGET`] chains are taken; if there are more, the queue wakes itself up again.
    pub fn serve(&mut self, mut serve: impl FnMut(&GuestMemory, Chain) -> Option<u32>) {
        self.serve_each(|memory, chain| serve(memory, chain).map_or(Served::NotNow, Served::Done));
    }

    /// Like [`Self::serve`], for a device that may keep a chain and return it later.
    pub fn serve_each(&mut self, mut serve: impl FnMut(&GuestMemory, Chain) -> Served) {
        let mut taken = 0;
        let mut returned = false;
        loop {
            self.pause_notifications();
            while taken < BUDGET
                && let Some(chain) = self.pop()
            {
                let head = chain.head;
                match serve(&self.memory, chain) {
                    Served::Done(written) => {
                        self.add_used(head, written);
                        returned = true;
                    }
                    Served::Kept => {}
                    Served::NotNow => {
                        self.undo_pop();
                        self.signal_if(returned);
                        self.resume_notifications();
                        return;
                    }
                }
                taken += 1;
            }
            if taken == BUDGET {
                self.wake();
                break;
            }
            if !self.resume_notifications() {
                break;
            }
        }
        self.signal_if(returned);
    }

    fn signal_if(&mut self, any: bool) {
        if any {
            self.signal();
        }
    }

    /// Tells the driver that it need not notify while the queue is being served.
    pub fn pause_notifications(&mut self) {
        if !self.broken
            && let Err(error) = self.ring.disable_notification(&self.memory)
        {
            self.fail(&error);
        }
    }

    /// Asks the driver to notify again; true if chains have become available in the meantime.
    pub fn resume_notifications(&mut self) -> bool {
        if self.broken {
            return false;
        }
        self.ring.enable_notification(&self.memory).unwrap_or_else(|error| {
            self.fail(&error);
            false
        })
    }

    /// Has the driver notify when it next adds a chain, though there may be some already. Returns the index up to which it
    /// has added chains so far.
    pub fn notify_of_next(&mut self) -> u16 {
        let next = self.ring.next_avail();
        if self.broken {
            return next;
        }
        match self.ring.avail_idx(&self.memory, Ordering::Acquire) {
            Ok(Wrapping(available)) => {
                // The ring asks for the notification that follows its own position.
                self.ring.set_next_avail(available);
                self.resume_notifications();
                self.ring.set_next_avail(next);
                available
            }
            Err(error) => {
                self.fail(&error);
                next
            }
        }
    }

    /// Makes the event loop come back to this queue.
    pub fn wake(&self) {
        if let Err(error) = self.notification.write(1) {
            tracing::error!(%error, "cannot wake a virtqueue");
        }
    }

    fn fail(&mut self, error: &RingError) {
        if self.interrupt.may_complain() {
            tracing::warn!(%error, "a virtqueue is broken; the device needs a reset");
        }
        self.broken = true;
        self.interrupt.device_needs_reset();
    }
}
