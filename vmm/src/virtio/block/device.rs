//! The block device: features, queues, and what the host may change while it runs. `serving.rs` serves the
//! queues.

use std::path::Path;
use std::sync::Arc;

use event_manager::EventSet;
use serde::Deserialize;
use serde_json::Value;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
};

use crate::virtio::block::async_io::AsyncIo;
use crate::virtio::block::config;
use crate::virtio::block::disk::BlockError;
use crate::virtio::block::disk_config::{CacheMode, DiskConfig, IoEngine, MAX_QUEUES};
use crate::virtio::block::model::Model;
use crate::virtio::config_space;
use crate::virtio::device::{
    ActivateError, Activation, Counter, QueuePosition, RestoreError, VirtioDevice, Watch, device_type,
};
use crate::virtio::interrupt::Interrupt;
use crate::virtio::rate_limit::{RateLimiterConfig, SavedLimits};
use crate::virtio::virtqueue::VirtQueue;

/// Descriptors in a request queue.
pub const QUEUE_SIZE: u16 = 256;
/// The rate limit's timer.
pub(super) const LIMIT: u32 = 0;
/// The ring has completed requests.
pub(super) const RING: u32 = 1;

/// A virtio disk.
#[derive(Debug)]
pub struct Block {
    pub(super) model: Model,
    pub(super) queue_sizes: Vec<u16>,
    pub(super) active: Option<Active>,
    pub(super) async_io: Option<AsyncIo>,
    /// What the event loop is to be told.
    pub(super) watches: Vec<Watch>,
}

/// What exists only while the device is active.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) queues: Vec<VirtQueue>,
    interrupt: Arc<Interrupt>,
    /// The ring was full: there may be chains left in some queue.
    pub(super) stalled: bool,
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
        let model = Model::open(config)?;
        let async_io = async_io(config.io_engine, &model);
        let watch = |ring: &AsyncIo| Watch::Add { fd: ring.fd(), token: RING, events: EventSet::IN };
        let watches = async_io.iter().map(watch).collect();
        Ok(Self { model, queue_sizes, active: None, async_io, watches })
    }

    /// Follows a change of the host's: the disk's file has another size, or there is another file for it at `path`. The
    /// guest is told of the new size.
    ///
    /// # Errors
    ///
    /// The new file cannot be used; the disk is what it was.
    pub fn update(&mut self, path: Option<&Path>) -> Result<(), BlockError> {
        self.finish_all();
        let updated = self.model.disk.update(path);
        if updated.is_err() {
            self.model.counters.update_fails += 1;
        }
        let is_other = updated?;
        self.model.counters.update_count += 1;
        if is_other
            && let Some(ring) = &mut self.async_io
            && let Err(error) = ring.follow(&self.model.disk)
        {
            self.stop_ring(&error);
        }
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
        self.wake_queues();
        Ok(())
    }

    pub(super) fn wake_queues(&self) {
        self.active.iter().flat_map(|active| &active.queues).for_each(VirtQueue::wake);
    }

    pub(super) fn collect_watches(&mut self) -> Vec<Watch> {
        self.watches.extend(self.model.limiter.take_watch(LIMIT));
        std::mem::take(&mut self.watches)
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
        self.active = Some(Active { queues, interrupt, stalled: false });
        Ok(())
    }

    fn reset(&mut self) {
        // What is in progress may touch guest memory until it is complete; nobody wants an answer any more.
        self.active = None;
        if let Some(ring) = &mut self.async_io
            && let Err(error) = ring.drain(&mut |_, _| {})
        {
            ring.give_up(&mut |_, _| {});
            self.stop_ring(&error);
        }
    }

    fn positions(&mut self) -> Vec<QueuePosition> {
        self.finish_all();
        self.active.iter().flat_map(|active| &active.queues).map(VirtQueue::position).collect()
    }

    fn save(&self) -> Value {
        // Numbers alone: this cannot fail.
        serde_json::to_value(self.model.limiter.save()).unwrap_or_default()
    }

    fn restore(&mut self, state: &Value) -> Result<(), RestoreError> {
        self.model.limiter.restore(&SavedLimits::deserialize(state)?);
        Ok(())
    }

    fn counters(&self) -> Vec<Counter> {
        self.model.counters.list()
    }
}

/// A ring, where one is wanted and to be had.
fn async_io(wanted: IoEngine, model: &Model) -> Option<AsyncIo> {
    if wanted == IoEngine::Sync {
        return None;
    }
    let path = model.disk.path().display();
    match AsyncIo::new(&model.disk) {
        Ok(ring) => return Some(ring),
        Err(error) if wanted == IoEngine::Async => {
            tracing::warn!(%error, %path, "no io_uring on this host; the disk is served without it");
        }
        Err(error) => {
            tracing::info!(%error, %path, "no io_uring on this host; the disk is served without it")
        }
    }
    None
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers in tests are small")]
mod tests;
