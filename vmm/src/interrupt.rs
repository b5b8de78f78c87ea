//! Interrupt lines as devices see them: something to trigger. Devices never name KVM.

use std::io;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

/// One edge-triggered interrupt input of the machine.
pub trait InterruptLine: Send + Sync {
    /// Raises the line once.
    ///
    /// # Errors
    /// The host refused to signal the line.
    fn trigger(&self) -> io::Result<()>;
}

/// An interrupt line that is an eventfd; whoever made it has tied the other end to the interrupt controller.
#[derive(Debug)]
pub struct EventFdLine(EventFd);

impl EventFdLine {
    /// A line that signals `event`.
    pub fn new(event: EventFd) -> Self {
        Self(event)
    }
}

impl InterruptLine for EventFdLine {
    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// A shared line as `vm-superio` devices want it.
pub(crate) struct Trigger(pub(crate) Arc<dyn InterruptLine>);

impl vm_superio::Trigger for Trigger {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.trigger()
    }
}
