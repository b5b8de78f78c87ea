//! From the guest to the tap (virtio 1.2, section 5.1.6.2): each chain is a header and one frame, and is
//! written as it lies in guest memory. A frame that the tap does not take is dropped, as on a real wire.

use vm_memory::Permissions;

use crate::memory::GuestMemory;
use crate::virtio::chain::Chain;
use crate::virtio::net::counts::Counts;
use crate::virtio::net::receive::MAX_FRAME;
use crate::virtio::net::tap::{FrameIo, HEADER_SIZE};
use crate::virtio::rate_limit::RateLimiter;
use crate::virtio::segments::SegmentsError;
use crate::virtio::virtqueue::VirtQueue;

/// Bytes of an Ethernet header; a frame has more.
const ETHERNET_HEADER: usize = 14;

/// Why a chain of the guest's is not sent.
#[derive(Debug, thiserror::Error)]
enum Dropped {
    #[error("it holds no frame")]
    Malformed,
    #[error("its buffers: {0}")]
    Buffers(#[from] SegmentsError),
    #[error("the tap did not take it: {0}")]
    Tap(std::io::Error),
}

/// Sends what the guest has queued, as far as the limit admits it.
pub fn transmit(queue: &mut VirtQueue, tap: &impl FrameIo, limit: &mut RateLimiter, counts: &mut Counts) {
    queue.serve(|memory, chain| {
        let length = chain.readable.len().saturating_sub(HEADER_SIZE);
        // The most that one chain can move, however long a malformed one says it is.
        if !limit.admit(length.min(MAX_FRAME) as u64) {
            counts.tx.throttled += 1;
            return None;
        }
        match send(memory, chain, tap) {
            Ok(()) => counts.tx.passed(length),
            Err(reason) => {
                tracing::debug!(length, %reason, "dropped a frame of the guest's");
                counts.tx.fails += 1;
                match reason {
                    Dropped::Tap(_) => counts.tap_write_fails += 1,
                    Dropped::Malformed | Dropped::Buffers(_) => counts.tx_malformed_frames += 1,
                }
            }
        }
        Some(0)
    });
}

fn send(memory: &GuestMemory, chain: Chain, tap: &impl FrameIo) -> Result<(), Dropped> {
    let length = chain.readable.len();
    if chain.defect.is_some() || !(HEADER_SIZE + ETHERNET_HEADER..=MAX_FRAME).contains(&length) {
        return Err(Dropped::Malformed);
    }
    tap.send(&chain.readable.slices(memory, Permissions::Read)?).map_err(Dropped::Tap)?;
    Ok(())
}
