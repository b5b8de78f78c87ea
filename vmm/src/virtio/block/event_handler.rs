//! Which event wakes which part of the block device: its one queue.

use crate::virtio::block::device::Block;
use crate::virtio::device::EventHandler;

impl EventHandler for Block {
    fn on_queue(&mut self, _index: usize) {
        self.process_queue();
    }
}
