//! Which event wakes which part of the block device: its queues, the timer of its rate limit, and its
//! ring.

use event_manager::EventSet;

use crate::virtio::block::device::{Block, LIMIT, RING};
use crate::virtio::device::{EventHandler, Watch};

impl EventHandler for Block {
    fn on_queue(&mut self, index: usize) {
        self.on_queue_event(index);
    }

    fn on_fd(&mut self, token: u32, _ready: EventSet) {
        match token {
            LIMIT => self.on_limit(),
            RING => self.on_ring(),
            _ => {}
        }
    }

    fn take_watches(&mut self) -> Vec<Watch> {
        self.collect_watches()
    }
}
