//! The entropy device model.

use std::io;

use serde::Deserialize;
use serde_json::Value;

use crate::memory::GuestMemory;
use crate::virtio::chain::Chain;
use crate::virtio::device::{
    ActivateError, Activation, Counter, QueuePosition, RestoreError, VirtioDevice, Watch, device_type,
};
use crate::virtio::rate_limit::{RateLimiter, RateLimiterConfig, SavedLimits};
use crate::virtio::rng::fill::{self, fill};
use crate::virtio::virtqueue::VirtQueue;

const QUEUE_SIZES: [u16; 1] = [64];
/// Token of the rate limit's timer.
const TIMER: u32 = 0;
/// Bytes for one wake-up, after which other devices get their turn.
const BYTES_PER_WAKE: usize = 4 * fill::MAX_REQUEST;

/// A virtio entropy device.
#[derive(Debug)]
pub struct Rng {
    limiter: RateLimiter,
    queue: Option<VirtQueue>,
    counts: Counts,
}

/// What it has done since it was made.
#[derive(Debug, Default)]
struct Counts {
    requests: u64,
    bytes: u64,
    failed: u64,
    throttled: u64,
}

impl Rng {
    /// A device that serves no more than `limits`.
    ///
    /// # Errors
    ///
    /// The host gives no timer.
    pub fn new(limits: &RateLimiterConfig) -> io::Result<Self> {
        Ok(Self { limiter: RateLimiter::new(limits)?, queue: None, counts: Counts::default() })
    }

    /// Fills what the driver has queued.
    pub(super) fn process_queue(&mut self) {
        let Self { limiter, queue: Some(queue), counts } = self else { return };
        let mut left = BYTES_PER_WAKE;
        let mut tired = false;
        queue.serve(|memory, chain| {
            if left == 0 {
                tired = true;
                return None;
            }
            if !limiter.admit(chain.writable.len().min(fill::MAX_REQUEST) as u64) {
                counts.throttled += 1;
                return None;
            }
            let written = counts.answer(memory, chain);
            left = left.saturating_sub(written as usize);
            Some(written)
        });
        if tired {
            queue.wake();
        }
    }

    /// The rate limit admits requests again.
    pub(super) fn on_timer(&mut self) {
        self.limiter.on_timer();
        self.process_queue();
    }

    pub(super) fn collect_watches(&mut self) -> Vec<Watch> {
        self.limiter.take_watch(TIMER).into_iter().collect()
    }
}

impl Counts {
    /// Fills one request and counts it. Returns the bytes written, as the used ring wants them.
    fn answer(&mut self, memory: &GuestMemory, chain: Chain) -> u32 {
        self.requests += 1;
        let result = match chain.defect {
            None => fill(memory, chain.writable),
            Some(defect) => Err(io::Error::other(defect)),
        };
        match result {
            Ok(written) => {
                self.bytes += u64::from(written);
                written
            }
            Err(error) => {
                tracing::debug!(%error, "cannot fill a buffer with random bytes");
                self.failed += 1;
                0
            }
        }
    }
}

impl VirtioDevice for Rng {
    fn device_type(&self) -> u32 {
        device_type::RNG
    }

    /// None are defined (section 5.4.3).
    fn features(&self) -> u64 {
        0
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let given = activation.queues.len();
        let [queue] = <[VirtQueue; 1]>::try_from(activation.queues)
            .map_err(|_| ActivateError::QueueCount { wanted: QUEUE_SIZES.len(), given })?;
        self.queue = Some(queue);
        Ok(())
    }

    fn reset(&mut self) {
        self.queue = None;
    }

    /// Requests are answered as they are taken.
    fn positions(&mut self) -> Vec<QueuePosition> {
        self.queue.iter().map(VirtQueue::position).collect()
    }

    fn save(&self) -> Value {
        // Numbers alone: this cannot fail.
        serde_json::to_value(self.limiter.save()).unwrap_or_default()
    }

    fn restore(&mut self, state: &Value) -> Result<(), RestoreError> {
        self.limiter.restore(&SavedLimits::deserialize(state)?);
        Ok(())
    }

    fn counters(&self) -> Vec<Counter> {
        let Counts { requests, bytes, failed, throttled } = self.counts;
        vec![
            Counter { name: "entropy_event_count", value: requests },
            Counter { name: "entropy_bytes", value: bytes },
            Counter { name: "entropy_event_fails", value: failed },
            Counter { name: "entropy_rate_limiter_throttled", value: throttled },
        ]
    }
}

#[cfg(test)]
mod tests;
