//! The block device: features, queues, and what the host may change while it runs. Requests are `model.rs`'s business.

use std::path::Path;
use std::sync::Arc;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
};

use crate::virtio::block::config;
use crate::virtio::block::disk::BlockError;
use crate::virtio::block::disk_config::{CacheMode, DiskConfig, MAX_QUEUES};
use crate::virtio::block::model::Model;
use crate::virtio::config_space;
use crate::virtio::device::{
    ActivateError, Activation, Counter, QueuePosition, VirtioDevice, Watch, device_type,
};
use crate::virtio::interrupt::Interrupt;
use crate::virtio::rate_limit::RateLimiterConfig;
use crate::virtio::virtqueue::VirtQueue;

/// Descriptors in a request queue.
pub const QUEUE_SIZE: u16 = 256;
/// The rate limit's timer.
pub(super) const LIMIT: u32 = 0;

/// A virtio disk.
#[derive(Debug)]
pub struct Block {
    model: Model,
    queue_sizes: Vec<u16>,
    active: Option<Active>,
}

/// What exists only while the device is active.
#[derive(Debug)]
struct Active {
    queues: Vec<VirtQueue>,
    interrupt: Arc<Interrupt>,
}

impl Block {
    /// Opens the disk.
    ///
    /// # Errors
    ///
    /// [`BlockError`] names the path.
    pub fn open(config: &DiskConfig) -> Result<Self, BlockError> {
        let queues = config.queues;
        if !(1..=MAX_QUEUES).contains(&queues) {
            return Err(BlockError::Queues { path: config.path.clone(), queues });
        }
        let queue_sizes = vec![QUEUE_SIZE; usize::from(queues)];
        Ok(Self { model: Model::open(config)?, queue_sizes, active: None })
    }

    /// Follows a change of the host's: the disk's file has another size, or there is another file for it at `path`. The
    /// guest is told of the new size.
    ///
    /// # Errors
    ///
    /// The new file cannot be used; the disk is what it was.
    pub fn update(&mut self, path: Option<&Path>) -> Result<(), BlockError> {
        if let Err(error) = self.model.disk.update(path) {
            self.model.counters.update_fails += 1;
            return Err(error);
        }
        self.model.counters.update_count += 1;
        if let Some(active) = &self.active {
            active.interrupt.config_changed();
        }
        Ok(())
    }

    /// Changes the rate limits that `config` names; requests that waited are looked at again.
    ///
    /// # Errors
    ///
    /// The host gives no timer.
    pub fn update_rate_limiter(&mut self, config: &RateLimiterConfig) -> Result<(), BlockError> {
        let path = || self.model.disk.path().to_owned();
        self.model
            .limiter
            .update(config)
            .map_err(|source| BlockError::Descriptors { path: path(), source })?;
        self.model.counters.update_count += 1;
        self.active.iter().flat_map(|active| &active.queues).for_each(VirtQueue::wake);
        Ok(())
    }

    /// The driver has queued something.
    pub(super) fn on_queue_event(&mut self, index: usize) {
        self.model.counters.queue_event_count += 1;
        self.process_queue(index);
    }

    /// Requests that waited for the rate limit may go on.
    pub(super) fn on_limit(&mut self) {
        self.model.counters.rate_limiter_event_count += 1;
        self.model.limiter.on_timer();
        (0..self.queue_sizes.len()).for_each(|index| self.process_queue(index));
    }

    /// Serves what the driver has queued.
    fn process_queue(&mut self, index: usize) {
        let Self { model, active: Some(active), .. } = self else { return };
        let Some(queue) = active.queues.get_mut(index) else { return };
        queue.serve(|memory, chain| model.serve(memory, chain));
    }

    pub(super) fn collect_watches(&mut self) -> Vec<Watch> {
        self.model.limiter.take_watch(LIMIT).into_iter().collect()
    }
}

impl VirtioDevice for Block {
    fn device_type(&self) -> u32 {
        device_type::BLOCK
    }

    fn features(&self) -> u64 {
        let writable = !self.model.disk.read_only();
        [
            (VIRTIO_BLK_F_SEG_MAX, true),
            (VIRTIO_BLK_F_BLK_SIZE, true),
            (VIRTIO_BLK_F_FLUSH, self.model.cache == CacheMode::Writeback),
            (VIRTIO_BLK_F_MQ, self.queue_sizes.len() > 1),
            (VIRTIO_BLK_F_RO, !writable),
            (VIRTIO_BLK_F_DISCARD, writable),
            (VIRTIO_BLK_F_WRITE_ZEROES, writable),
        ]
        .into_iter()
        .fold(0, |bits, (bit, offered)| bits | u64::from(offered) << bit)
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn required_queues(&self) -> usize {
        1
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        // No more than MAX_QUEUES.
        let queues = u16::try_from(self.queue_sizes.len()).unwrap_or(MAX_QUEUES);
        config_space::read(&config::config_space(self.model.disk.sectors(), queues), offset, data);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let Activation { queues, features, interrupt } = activation;
        if queues.is_empty() || queues.len() > self.queue_sizes.len() {
            return Err(ActivateError::QueueCount { wanted: self.queue_sizes.len(), given: queues.len() });
        }
        self.model.write_through = features & 1 << VIRTIO_BLK_F_FLUSH == 0;
        self.active = Some(Active { queues, interrupt });
        Ok(())
    }

    fn reset(&mut self) {
        self.active = None;
    }

    /// Requests are answered as they are taken.
    fn positions(&mut self) -> Vec<QueuePosition> {
        self.active.iter().flat_map(|active| &active.queues).map(VirtQueue::position).collect()
    }

    fn counters(&self) -> Vec<Counter> {
        self.model.counters.list()
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers in tests are small")]
mod tests;
