//! Serving the queues: what is taken from them is done at once or goes into the ring, and what the ring has done is
//! returned to them.

use std::io;

use crate::virtio::block::async_io::{AsyncIo, Begun, Complete, Pending};
use crate::virtio::block::device::Block;
use crate::virtio::block::disk_config::MAX_QUEUES;
use crate::virtio::block::model::Taken;
use crate::virtio::device::Watch;
use crate::virtio::virtqueue::{Served, VirtQueue};

impl Block {
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
    pub(super) fn finish_all(&mut self) {
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
    pub(super) fn stop_ring(&mut self, error: &io::Error) {
        let path = self.model.disk.path().display();
        tracing::warn!(%error, %path, "io_uring fails; the disk goes on without it");
        if let Some(ring) = self.async_io.take() {
            self.watches.push(Watch::Close(ring.into_fd()));
        }
        self.wake_queues();
    }
}
