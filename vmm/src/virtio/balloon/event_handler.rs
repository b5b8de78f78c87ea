//! Which event wakes which part of the balloon: its queues, of which the driver may have left some out, and the timer of
//! the statistics.

use event_manager::EventSet;

use crate::virtio::balloon::device::{Balloon, Role};
use crate::virtio::device::{EventHandler, Watch};

impl EventHandler for Balloon {
    fn on_queue(&mut self, index: usize) {
        match self.role(index) {
            Some(Role::Inflate) => self.inflate(),
            Some(Role::Deflate) => self.deflate(),
            Some(Role::Stats) => self.take_stats(),
            Some(Role::Reporting) => self.take_reports(),
            None => {}
        }
    }

    fn on_fd(&mut self, _token: u32, _ready: EventSet) {
        self.ask_for_stats();
    }

    fn take_watches(&mut self) -> Vec<Watch> {
        self.collect_watches()
    }
}
