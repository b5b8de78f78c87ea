//! The block device: features, queues, and what the host may change while it runs. Requests are `model.rs`'s business.

use std::io;
use std::path::Path;
use std::sync::Arc;

use event_manager::EventSet;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
};

use crate::virtio::block::async_io::{AsyncIo, Begun, Complete, Pending};
use crate::virtio::block::config;
use crate::virtio::block::disk::BlockError;
use crate::virtio::block::disk_config::{CacheMode, DiskConfig, IoEngine, MAX_QUEUES};
use crate::virtio::block::model::{Model, Taken};
use crate::virtio::config_space;
use crate::virtio::device::{
    ActivateError, Activation, Counter, QueuePosition, VirtioDevice, Watch, device_type,
};
use crate::virtio::interrupt::Interrupt;
use crate::virtio::rate_limit::RateLimiterConfig;
use crate::virtio::virtqueue::{Served, VirtQueue};

/// Descriptors in a request queue.
pub const QUEUE_SIZE: u16 = 256;
/// The rate limit's timer.
pub(super) const LIMIT: u32 = 0;
/// The ring has completed requests.
pub(super) const RING: u32 = 1;

/// A virtio disk.
#[derive(Debug)]
pub struct Block {
    model: Model,
    queue_sizes: Vec<u16>,
    active: Option<Active>,
    async_io: Option<AsyncIo>,
    /// What the event loop is to be told.
    watches: Vec<Watch>,
}

/// What exists only while the device is active.
#[derive(Debug)]
struct Active {
    queues: Vec<VirtQueue>,
    interrupt: Arc<Interrupt>,
    /// The ring was full: there may be chains left in some queue.
    stalled: bool,
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
        if let Err(error) = self.model.disk.update(path) {
            self.model.counters.update_fails += 1;
            return Err(error);
        }
        self.model.counters.update_count += 1;
        if let Some(ring) = &mut self.async_io
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

    fn wake_queues(&self) {
        self.active.iter().flat_map(|active| &active.queues).for_each(VirtQueue::wake);
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
        let Self { model, active: Some(active), async_io, .. } = self else { return };
        let Some(queue) = active.queues.get_mut(index) else { return };
        let stalled = &mut active.stalled;
        queue.serve_each(|memory, chain| {
            if async_io.as_ref().is_some_and(|ring| !ring.has_room()) {
                model.counters.io_engine_throttled_events += 1;
                *stalled = true;
                return Served::NotNow;
            }
            let head = chain.head;
            let (operation, status) = match model.take(memory, chain) {
                Taken::Answered(written) => return Served::Done(written),
                Taken::NotNow => return Served::NotNow,
                Taken::Work(operation, status) => (operation, status),
            };
            let begun = match async_io {
                Some(ring) => ring.begin(model, memory, (index, head), operation, status),
                None => Begun::NotForRing(operation, status),
            };
            match begun {
                Begun::InRing => Served::Kept,
                Begun::NotForRing(operation, status) => {
                    Served::Done(model.execute(memory, operation, &status))
                }
            }
        });
        self.complete(AsyncIo::submit);
    }

    /// Requests in the ring are complete.
    pub(super) fn on_ring(&mut self) {
        // Also while the device is not active, or the event would come for ever.
        self.async_io.iter().for_each(AsyncIo::acknowledge);
        self.complete(|ring, answer| {
            ring.collect(answer);
            Ok(())
        });
    }

    /// Waits until nothing is in progress.
    fn finish_all(&mut self) {
        self.complete(AsyncIo::drain);
    }

    /// Answers what `collect` gets from the ring.
    fn complete(&mut self, collect: impl FnOnce(&mut AsyncIo, &mut Complete<'_>) -> io::Result<()>) {
        let Self { model, active: Some(active), async_io: Some(ring), .. } = self else { return };
        let mut answered = [false; MAX_QUEUES as usize];
        let mut answer = |pending: Pending, result| {
            let (index, head) = (pending.queue, pending.head);
            if let Some(queue) = active.queues.get_mut(index) {
                let written = pending.conclude(model, queue.memory(), result);
                queue.add_used(head, written);
                answered[index] = true;
            }
        };
        let failure = collect(ring, &mut answer).err();
        if failure.is_some() {
            ring.give_up(&mut answer);
        }
        for (queue, answered) in active.queues.iter_mut().zip(answered) {
            if answered {
                queue.signal();
            }
        }
        if active.stalled && ring.has_room() {
            active.stalled = false;
            active.queues.iter().for_each(VirtQueue::wake);
        }
        if let Some(error) = failure {
            self.stop_ring(&error);
        }
    }

    /// Goes on without a ring.
    fn stop_ring(&mut self, error: &io::Error) {
        let path = self.model.disk.path().display();
        tracing::warn!(%error, %path, "io_uring fails; the disk goes on without it");
        if let Some(ring) = self.async_io.take() {
            self.watches.push(Watch::Close(ring.into_fd()));
        }
        self.wake_queues();
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
        self.finish_all();
        self.active = None;
    }

    fn positions(&mut self) -> Vec<QueuePosition> {
        self.finish_all();
        self.active.iter().flat_map(|active| &active.queues).map(VirtQueue::position).collect()
    }

    fn counters(&self) -> Vec<Counter> {
        self.model.counters.list()
    }
}

/// A ring, where one is wanted and to be had.
fn async_io(wanted: IoEngine, model: &Model) -> Option<AsyncIo> {
    if wanted != IoEngine::Async {
        return None;
    }
    let without = |error: &io::Error| {
        let path = model.disk.path().display();
        tracing::warn!(%error, %path, "no io_uring on this host; the disk is served without it");
    };
    AsyncIo::new(&model.disk).inspect_err(without).ok()
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers in tests are small")]
mod tests;
