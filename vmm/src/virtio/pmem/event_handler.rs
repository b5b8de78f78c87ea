//! Which event wakes which part of the persistent memory device: its one queue.

use crate::virtio::device::EventHandler;
use crate::virtio::pmem::device::Pmem;

impl EventHandler for Pmem {
    fn on_queue(&mut self, _index: usize) {
        self.process_queue();
    }
}
