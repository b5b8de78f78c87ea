//! A descriptor chain, read once from guest memory into [`Segments`].
//!
//! Reading once closes the window in which the guest could change a descriptor between check and use.

use std::ops::Deref;

use virtio_queue::DescriptorChain;
use vm_memory::GuestMemory as VmGuestMemory;

use crate::virtio::segments::Segments;

/// More descriptors than this in one chain are malformed. It is also the most that one vectored call takes
/// (IOV_MAX).
pub const MAX_PIECES: usize = 1024;

/// What is wrong with a chain's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// It loops, points outside of its table, or nests indirect tables.
    #[error("the chain has no end")]
    Endless,
    /// A device-readable descriptor after a device-writable one (virtio 1.2, section 2.7.4.2).
    #[error("a readable descriptor follows a writable one")]
    OutOfOrder,
    /// More than [`MAX_PIECES`] descriptors.
    #[error("the chain has more than {MAX_PIECES} descriptors")]
    TooLong,
    /// No descriptor could be read at all.
    #[error("the chain is empty")]
    Empty,
}

/// A chain that the driver has made available.
#[derive(Debug)]
pub struct Chain {
    /// Index of the first descriptor; names the chain in the used ring.
    pub head: u16,
    /// What the device may read.
    pub readable: Segments,
    /// What the device may write.
    pub writable: Segments,
    /// Set when the chain must not be served; it is still to be returned to the driver.
    pub defect: Option<Defect>,
}

impl Chain {
    /// Reads all descriptors of `chain`.
    pub fn parse<M>(chain: DescriptorChain<M>) -> Chain
    where
        M: Deref,
        M::Target: VmGuestMemory,
    {
        let mut parsed = Chain {
            head: chain.head_index(),
            readable: Segments::default(),
            writable: Segments::default(),
            defect: None,
        };
        let mut count = 0;
        let mut more = false;
        for descriptor in chain {
            count += 1;
            if count > MAX_PIECES {
                parsed.defect = Some(Defect::TooLong);
                return parsed;
            }
            more = descriptor.has_next();
            if descriptor.is_write_only() {
                parsed.writable.push(descriptor.addr(), descriptor.len());
            } else {
                if !parsed.writable.is_empty() {
                    parsed.defect = Some(Defect::OutOfOrder);
                }
                parsed.readable.push(descriptor.addr(), descriptor.len());
            }
        }
        // The iterator ends without a word where a chain goes wrong: its last descriptor then promises
        // another.
        if more {
            parsed.defect = Some(Defect::Endless);
        } else if count == 0 {
            parsed.defect = Some(Defect::Empty);
        }
        parsed
    }
}
