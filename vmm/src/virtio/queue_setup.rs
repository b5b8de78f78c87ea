//! One queue as the driver sets it up through the transport's registers (virtio 1.2, section 4.2.2).
//!
//! Plain data until [`QueueSetup::build`] checks it all at once and makes a live [`Queue`] of it, so a driver
//! that writes the two halves of an address one after the other never sees a half-checked value.

use serde::{Deserialize, Serialize};
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;

use crate::memory::GuestMemory;

/// Why a queue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum QueueSetupError {
    /// The driver said DRIVER_OK without setting QueueReady.
    #[error("the queue is not ready")]
    NotReady,
    /// A size of zero, no power of two or more than offered.
    #[error("the size {size} is no power of two from 1 to {max_size}")]
    Size {
        /// What the driver wrote.
        size: u32,
        /// What was offered.
        max_size: u16,
    },
    /// A ring is not aligned as section 2.7 wants it.
    #[error("the {part} at {address:#x} is not aligned")]
    Misaligned {
        /// Which of the three parts.
        part: &'static str,
        /// Its guest physical address.
        address: u64,
    },
    /// A ring is outside of guest memory.
    #[error(
        "descriptor table {descriptors:#x}, available ring {available:#x} or used ring {used:#x} is not in memory"
    )]
    OutOfMemory {
        /// Address of the descriptor table.
        descriptors: u64,
        /// Address of the available ring.
        available: u64,
        /// Address of the used ring.
        used: u64,
    },
}

/// Which half of a 64-bit register a 32-bit write goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Bits 0 to 31.
    Low,
    /// Bits 32 to 63.
    High,
}

impl Half {
    /// `old` with this half replaced.
    pub fn replace(self, old: u64, value: u32) -> u64 {
        match self {
            Half::Low => (old & !0xffff_ffff) | u64::from(value),
            Half::High => (old & 0xffff_ffff) | (u64::from(value) << 32),
        }
    }
}

/// The queue registers of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSetup {
    /// QueueNumMax: the largest size offered, in descriptors.
    pub max_size: u16,
    /// QueueNum: the size that the driver chose, unchecked.
    pub size: u32,
    /// QueueReady.
    pub ready: bool,
    /// Guest physical address of the descriptor table.
    pub descriptors: u64,
    /// Guest physical address of the available ring (the driver area).
    pub available: u64,
    /// Guest physical address of the used ring (the device area).
    pub used: u64,
}

impl QueueSetup {
    /// A queue that the driver has not touched yet.
    pub fn new(max_size: u16) -> Self {
        Self { max_size, size: u32::from(max_size), ready: false, descriptors: 0, available: 0, used: 0 }
    }

    /// Checks everything the driver wrote and makes a live queue of it.
    ///
    /// # Errors
    ///
    /// [`QueueSetupError`] names what the driver did wrong.
    pub fn build(&self, memory: &GuestMemory, event_idx: bool) -> Result<Queue, QueueSetupError> {
        if !self.ready {
            return Err(QueueSetupError::NotReady);
        }
        let bad_size = || QueueSetupError::Size { size: self.size, max_size: self.max_size };
        let misaligned = |part, address| move |_| QueueSetupError::Misaligned { part, address };
        let mut queue = Queue::new(self.max_size).map_err(|_| bad_size())?;
        let size = u16::try_from(self.size).map_err(|_| bad_size())?;
        queue.try_set_size(size).map_err(|_| bad_size())?;
        queue
            .try_set_desc_table_address(GuestAddress(self.descriptors))
            .map_err(misaligned("descriptor table", self.descriptors))?;
        queue
            .try_set_avail_ring_address(GuestAddress(self.available))
            .map_err(misaligned("available ring", self.available))?;
        queue
            .try_set_used_ring_address(GuestAddress(self.used))
            .map_err(misaligned("used ring", self.used))?;
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        // virtio-queue takes address 0 to mean "not set up", so a ring there would never be served.
        if self.available == 0 || !queue.is_valid(memory) {
            return Err(QueueSetupError::OutOfMemory {
                descriptors: self.descriptors,
                available: self.available,
                used: self.used,
            });
        }
        Ok(queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> GuestMemory {
        GuestMemory::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap()
    }

    fn good() -> QueueSetup {
        let mut setup = QueueSetup::new(256);
        setup.size = 16;
        setup.ready = true;
        (setup.descriptors, setup.available, setup.used) = (0x1000, 0x2000, 0x3000);
        setup
    }

    #[test]
    fn builds_a_queue_from_a_correct_set_up() {
        let queue = good().build(&memory(), true).unwrap();
        assert_eq!((queue.size(), queue.desc_table(), queue.used_ring()), (16, 0x1000, 0x3000));
        assert!(queue.event_idx_enabled());
    }

    #[test]
    fn refuses_what_the_driver_must_not_do() {
        type Spoil = fn(&mut QueueSetup);
        let cases: [(&str, Spoil); 12] = [
            ("not ready", |q| q.ready = false),
            ("size", |q| q.size = 0),
            ("size", |q| q.size = 15),
            ("size", |q| q.size = 512),
            ("size", |q| q.size = 0x1_0010),
            ("descriptor table at 0x1008", |q| q.descriptors = 0x1008),
            ("available ring at 0x2001", |q| q.available = 0x2001),
            ("used ring at 0x3002", |q| q.used = 0x3002),
            ("not in memory", |q| q.descriptors = 0xfff0),
            ("not in memory", |q| q.available = 0),
            ("not in memory", |q| q.available = u64::MAX - 1),
            ("not in memory", |q| q.used = 0xffff_ffff_ffff_fffc),
        ];
        for (wanted, spoil) in cases {
            let mut setup = good();
            spoil(&mut setup);
            let error = setup.build(&memory(), false).unwrap_err().to_string();
            assert!(error.contains(wanted), "{setup:?}: {error}");
        }
    }

    #[test]
    fn replaces_one_half_of_an_address() {
        assert_eq!(Half::Low.replace(0x1_0000_0002, 7), 0x1_0000_0007);
        assert_eq!(Half::High.replace(0x1_0000_0002, 7), 0x7_0000_0002);
    }
}
