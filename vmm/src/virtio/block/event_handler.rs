//! Which event wakes which part of the block device: its queues, and the timer of its rate limit.

use event_manager::EventSet;

use crate::virtio::block::device::{Block, LIMIT};
use crate::virtio::device::{EventHandler, Watch};

impl EventHandler for Block {
    fn on_queue(&mut self, index: usize) {
        self.on_queue_event(index);
    }

    fn on_fd(&mut self, token: u32, _ready: EventSet) {
        if token == LIMIT {
            self.on_limit();
        }
    }

    fn take_watches(&mut self) -> Vec<Watch> {
        self.collect_watches()
    }
}
