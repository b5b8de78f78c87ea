//! Which event wakes which part of the network card: its two queues, the tap, and the timers
//! of its limits.

use event_manager::EventSet;

use crate::virtio::device::{EventHandler, Watch};
use crate::virtio::net::device::{Net, RECEIVE, TAP, TRANSMIT};
use crate::virtio::net::tap::FrameIo;

impl<T: FrameIo> EventHandler for Net<T> {
    fn on_queue(&mut self, index: usize) {
        match index {
            RECEIVE => self.receive(),
            TRANSMIT => self.transmit(),
            _ => {}
        }
    }

    fn on_fd(&mut self, token: u32, ready: EventSet) {
        if token != TAP {
            return self.on_timer(token);
        }
        self.receive();
        if ready.intersects(EventSet::ERROR | EventSet::HANG_UP) {
            self.on_tap_broken();
        }
    }

    fn take_watches(&mut self) -> Vec<Watch> {
        self.collect_watches()
    }
}
