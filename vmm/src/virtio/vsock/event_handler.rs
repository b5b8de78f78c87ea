//! Which event wakes which part of the vsock device: its queues, the listener, and every host stream.

use event_manager::EventSet;

use crate::virtio::device::{EventHandler, Watch};
use crate::virtio::vsock::device::{EVENTS, LISTENER, RECEIVE, TRANSMIT, Vsock};

impl EventHandler for Vsock {
    fn on_queue(&mut self, index: usize) {
        match index {
            RECEIVE => self.fill_receive(),
            TRANSMIT => self.process_transmit(),
            EVENTS => self.process_events(),
            _ => {}
        }
    }

    fn on_fd(&mut self, token: u32, ready: EventSet) {
        match token {
            LISTENER => self.accept_clients(),
            stream => self.on_stream(stream, ready),
        }
    }

    fn take_watches(&mut self) -> Vec<Watch> {
        self.collect_watches()
    }
}
