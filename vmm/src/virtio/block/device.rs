//! The block device model: parse a request, execute it on the [`Disk`], answer with a status byte.

use std::io;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_ID_BYTES,
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP,
};

use crate::memory::GuestMemory;
use crate::virtio::block::config;
use crate::virtio::block::disk::{BlockConfig, BlockError, Disk};
use crate::virtio::block::request::{Operation, Request};
use crate::virtio::chain::Chain;
use crate::virtio::config_space;
use crate::virtio::device::{ActivateError, Activation, QueuePosition, VirtioDevice, device_type};
use crate::virtio::segments::Segments;
use crate::virtio::virtqueue::VirtQueue;

/// Descriptors in the request queue.
pub const QUEUE_SIZE: u16 = 256;
const QUEUE_SIZES: [u16; 1] = [QUEUE_SIZE];
const ID_SIZE: usize = VIRTIO_BLK_ID_BYTES as usize;

/// A virtio disk.
#[derive(Debug)]
pub struct Block {
    model: Model,
    queue: Option<VirtQueue>,
}

/// What answers requests; it holds nothing of the driver's.
#[derive(Debug)]
struct Model {
    id: [u8; ID_SIZE],
    disk: Disk,
}

impl Block {
    /// Opens the disk.
    ///
    /// # Errors
    ///
    /// [`BlockError`] names the path.
    pub fn open(config: &BlockConfig) -> Result<Self, BlockError> {
        let mut id = [0; ID_SIZE];
        let length = config.id.len().min(ID_SIZE);
        id[..length].copy_from_slice(&config.id.as_bytes()[..length]);
        Ok(Self { model: Model { id, disk: Disk::open(config)? }, queue: None })
    }

    /// Serves what the driver has queued.
    pub(super) fn process_queue(&mut self) {
        let Self { model, queue: Some(queue) } = self else { return };
        queue.serve(|memory, chain| Some(model.answer(memory, chain)));
    }
}

impl Model {
    /// Executes one request. Returns the bytes written to the guest, as the used ring wants them.
    fn answer(&self, memory: &GuestMemory, chain: Chain) -> u32 {
        let request = Request::parse(memory, chain);
        let (status, written) = match request.operation {
            Ok(operation) => self.execute(memory, operation),
            Err(error) => {
                tracing::debug!(%error, "malformed block request");
                (VIRTIO_BLK_S_IOERR, 0)
            }
        };
        let Some(place) = request.status else { return 0 };
        match place.copy_from(memory, &status.to_le_bytes()[..1]) {
            Ok(()) => written + 1,
            Err(error) => {
                tracing::debug!(%error, "nowhere to put the status of a block request");
                0
            }
        }
    }

    /// The status, and the bytes written to the guest's buffers besides it.
    fn execute(&self, memory: &GuestMemory, operation: Operation) -> (u32, u32) {
        let result = match operation {
            Operation::In { sector, data } => {
                let length = data.len();
                self.disk.read(memory, sector, data).map(|()| length)
            }
            Operation::Out { sector, data } => self.disk.write(memory, sector, data).map(|()| 0),
            Operation::Flush => self.disk.flush().map(|()| 0),
            Operation::GetId { data } => self.write_id(memory, &data),
            Operation::Unsupported(kind) => {
                tracing::debug!(kind, "unsupported block request");
                return (VIRTIO_BLK_S_UNSUPP, 0);
            }
        };
        match result {
            Ok(length) => (VIRTIO_BLK_S_OK, u32::try_from(length).unwrap_or(u32::MAX - 1)),
            Err(error) => {
                tracing::debug!(%error, "block request failed");
                (VIRTIO_BLK_S_IOERR, 0)
            }
        }
    }

    fn write_id(&self, memory: &GuestMemory, data: &Segments) -> io::Result<usize> {
        let length = data.len().min(ID_SIZE);
        data.copy_from(memory, &self.id[..length])?;
        Ok(length)
    }
}

impl VirtioDevice for Block {
    fn device_type(&self) -> u32 {
        device_type::BLOCK
    }

    fn features(&self) -> u64 {
        let read_only = if self.model.disk.read_only() { 1 << VIRTIO_BLK_F_RO } else { 0 };
        1 << VIRTIO_BLK_F_FLUSH | 1 << VIRTIO_BLK_F_SEG_MAX | 1 << VIRTIO_BLK_F_BLK_SIZE | read_only
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        config_space::read(&config::config_space(self.model.disk.sectors()), offset, data);
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
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers in tests are small")]
mod tests;
