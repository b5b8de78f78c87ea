//! Which event wakes which part of a vhost-user device: the backend's call, or its end.

use event_manager::EventSet;

use super::device::{CALL, SOCKET, VhostUser};
use crate::virtio::device::{EventHandler, Watch};

impl EventHandler for VhostUser {
    /// The backend takes notifications itself.
    fn on_queue(&mut self, _index: usize) {}

    fn on_fd(&mut self, token: u32, _ready: EventSet) {
        match token {
            CALL => self.pass_interrupt_on(),
            SOCKET => self.look_at_backend(),
            _ => {}
        }
    }

    fn take_watches(&mut self) -> Vec<Watch> {
        self.take_own_watches()
    }
}
