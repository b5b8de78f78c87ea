//! Which event wakes which part of the entropy device: its one queue, and the timer of
//! its rate limit.

use event_manager::EventSet;

use crate::virtio::device::{EventHandler, Watch};
use crate::virtio::rng::device::Rng;

impl EventHandler for Rng {
    fn on_queue(&mut self, _index: usize) {
        self.process_queue();
    }

    fn on_fd(&mut self, _token: u32, _ready: EventSet) {
        self.on_timer();
    }

    fn take_watches(&mut self) -> Vec<Watch> {
        self.collect_watches()
    }
}
