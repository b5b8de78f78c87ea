//! From the guest to the tap (virtio 1.2, section 5.1.6.2): each chain is a header and one frame, and is
//! written as it lies in guest memory. A frame that the tap does not take is dropped, as on a real wire.

use vm_memory::Permissions;

use crate::memory::GuestMemory;
use crate::virtio::chain::Chain;
use crate::virtio::net::receive::MAX_FRAME;
use crate::virtio::net::tap::{FrameIo, HEADER_SIZE};
use crate::virtio::virtqueue::VirtQueue;

/// Bytes of an Ethernet header; a frame has more.
const ETHERNET_HEADER: usize = 14;

/// Sends what the guest has queued.
pub fn transmit(queue: &mut VirtQueue, tap: &impl FrameIo) {
    queue.serve(|memory, chain| {
        send(memory, chain, tap);
        Some(0)
    });
}

fn send(memory: &GuestMemory, chain: Chain, tap: &impl FrameIo) {
    let length = chain.readable.len();
    if chain.defect.is_some() || !(HEADER_SIZE + ETHERNET_HEADER..=MAX_FRAME).contains(&length) {
        tracing::debug!(length, defect = ?chain.defect, "dropped a malformed frame");
        return;
    }
    match chain.readable.slices(memory, Permissions::Read) {
        Ok(slices) => {
            if let Err(error) = tap.send(&slices) {
                tracing::debug!(%error, length, "the tap did not take a frame");
            }
        }
        Err(error) => tracing::debug!(%error, "dropped a frame that is not in memory"),
    }
}
