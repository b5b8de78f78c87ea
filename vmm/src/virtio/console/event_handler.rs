//! Which event wakes which part of the console: its two queues, and the descriptors of the host's side.

use event_manager::EventSet;

use crate::virtio::console::device::{Console, RECEIVE, TRANSMIT};
use crate::virtio::device::{EventHandler, Watch};

impl EventHandler for Console {
    fn on_queue(&mut self, index: usize) {
        match index {
            RECEIVE => self.receive(),
            TRANSMIT => self.transmit(),
            _ => {}
        }
    }

    fn on_fd(&mut self, token: u32, _ready: EventSet) {
        self.on_host_event(token);
    }

    fn take_watches(&mut self) -> Vec<Watch> {
        self.collect_watches()
    }
}
