//! What a disk counts.

use crate::virtio::block::model::Kind;
use crate::virtio::device::Counter;

/// Figures since the disk was opened; failed requests count as failed only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) read_bytes: u64,
    pub(super) read_count: u64,
    pub(super) write_bytes: u64,
    pub(super) write_count: u64,
    pub(super) flush_count: u64,
    pub(super) discard_bytes: u64,
    pub(super) discard_count: u64,
    pub(super) write_zeroes_bytes: u64,
    pub(super) write_zeroes_count: u64,
    /// Requests that the host could not carry out.
    pub(super) execute_fails: u64,
    /// Requests that make no sense.
    pub(super) invalid_reqs_count: u64,
    pub(super) queue_event_count: u64,
    pub(super) rate_limiter_event_count: u64,
    /// Requests that had to wait for a rate limit.
    pub(super) rate_limiter_throttled_events: u64,
    /// Times that the ring was full.
    pub(super) io_engine_throttled_events: u64,
    pub(super) update_count: u64,
    pub(super) update_fails: u64,
}

impl Counters {
    /// Counts a request that has been carried out.
    pub(super) fn add(&mut self, kind: Kind, bytes: u64) {
        let (count, sum) = match kind {
            Kind::In => (&mut self.read_count, &mut self.read_bytes),
            Kind::Out => (&mut self.write_count, &mut self.write_bytes),
            Kind::Discard => (&mut self.discard_count, &mut self.discard_bytes),
            Kind::WriteZeroes => (&mut self.write_zeroes_count, &mut self.write_zeroes_bytes),
            Kind::Flush => {
                self.flush_count += 1;
                return;
            }
            Kind::GetId => return,
        };
        *count += 1;
        *sum = sum.wrapping_add(bytes);
    }

    pub(super) fn list(&self) -> Vec<Counter> {
        let counter = |name, value| Counter { name, value };
        vec![
            counter("read_bytes", self.read_bytes),
            counter("read_count", self.read_count),
            counter("write_bytes", self.write_bytes),
            counter("write_count", self.write_count),
            counter("flush_count", self.flush_count),
            counter("discard_bytes", self.discard_bytes),
            counter("discard_count", self.discard_count),
            counter("write_zeroes_bytes", self.write_zeroes_bytes),
            counter("write_zeroes_count", self.write_zeroes_count),
            counter("execute_fails", self.execute_fails),
            counter("invalid_reqs_count", self.invalid_reqs_count),
            counter("queue_event_count", self.queue_event_count),
            counter("rate_limiter_event_count", self.rate_limiter_event_count),
            counter("rate_limiter_throttled_events", self.rate_limiter_throttled_events),
            counter("io_engine_throttled_events", self.io_engine_throttled_events),
            counter("update_count", self.update_count),
            counter("update_fails", self.update_fails),
        ]
    }
}
