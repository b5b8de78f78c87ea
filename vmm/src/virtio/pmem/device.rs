//! The persistent memory device model: says where the image is, and writes the guest's changes back on request.

use std::fs::File;
use std::sync::Arc;

use crate::virtio::config_space;
use crate::virtio::device::{ActivateError, Activation, Counter, QueuePosition, VirtioDevice, device_type};
use crate::virtio::pmem::config;
use crate::virtio::pmem::request::Request;
use crate::virtio::virtqueue::{BUDGET, VirtQueue};

/// Descriptors in the request queue.
pub const QUEUE_SIZE: u16 = 128;
const QUEUE_SIZES: [u16; 1] = [QUEUE_SIZE];
const SUCCESS: u32 = 0;
const FAILURE: u32 = u32::MAX;

/// An image in guest memory.
#[derive(Debug)]
pub struct Pmem {
    start: u64,
    len: u64,
    /// Where the guest's writes go; `None` where they stay in this machine.
    file: Option<Arc<File>>,
    queue: Option<VirtQueue>,
    flushes: u64,
    failures: u64,
}

impl Pmem {
    /// A device for the image that is mapped at the guest physical address `start`, `len` bytes long. Flushes go to
    /// `file`, which is mapped shared; without one there is nothing to flush.
    pub fn new(start: u64, len: u64, file: Option<Arc<File>>) -> Self {
        Self { start, len, file, queue: None, flushes: 0, failures: 0 }
    }

    /// Serves what the driver has queued: all of it by one flush of the file, so that a wake-up costs other devices no
    /// more than that.
    pub(super) fn process_queue(&mut self) {
        let Some(mut queue) = self.queue.take() else { return };
        queue.pause_notifications();
        let mut requests = Vec::new();
        while requests.len() < BUDGET
            && let Some(chain) = queue.pop()
        {
            requests.push(Request::parse(queue.memory(), chain));
        }
        self.answer(&mut queue, &requests);
        if requests.len() == BUDGET || queue.resume_notifications() {
            queue.wake();
        }
        self.queue = Some(queue);
    }

    fn answer(&mut self, queue: &mut VirtQueue, requests: &[Request]) {
        let wanted = requests.iter().any(|request| request.flush.is_ok());
        let flushed = if wanted { self.flush() } else { SUCCESS };
        for request in requests {
            let result = match &request.flush {
                Ok(()) => flushed,
                Err(error) => {
                    tracing::debug!(%error, "malformed persistent memory request");
                    FAILURE
                }
            };
            let written = request.answer(queue.memory(), result);
            queue.add_used(request.head, written);
        }
        if !requests.is_empty() {
            queue.signal();
        }
    }

    /// Makes what the guest has written durable.
    fn flush(&mut self) -> u32 {
        self.flushes += 1;
        match self.file.as_ref().map_or(Ok(()), |file| file.sync_data()) {
            Ok(()) => SUCCESS,
            Err(error) => {
                tracing::warn!(%error, "cannot flush the image of a persistent memory device");
                self.failures += 1;
                FAILURE
            }
        }
    }
}

impl VirtioDevice for Pmem {
    fn device_type(&self) -> u32 {
        device_type::PMEM
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        config_space::read(&config::config_space(self.start, self.len), offset, data);
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

    /// Requests are answered as they are taken. The image itself is a file, which a restored machine maps again.
    fn positions(&mut self) -> Vec<QueuePosition> {
        self.queue.iter().map(VirtQueue::position).collect()
    }

    fn counters(&self) -> Vec<Counter> {
        vec![
            Counter { name: "flush_count", value: self.flushes },
            Counter { name: "flush_fails", value: self.failures },
        ]
    }
}

#[cfg(test)]
mod tests;
