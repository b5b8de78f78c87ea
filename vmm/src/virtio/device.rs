//! What a device model adds to the transport: the [`VirtioDevice`] and [`EventHandler`] traits.
//!
//! The transport owns queues, features and status until the driver says DRIVER_OK; then it hands the device
//! an [`Activation`]. A device never touches epoll: it says what it wants watched ([`Watch`]) and is called
//! back.

use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Arc, Mutex};

use event_manager::EventSet;

use crate::virtio::interrupt::Interrupt;
use crate::virtio::virtqueue::VirtQueue;

/// A device as the transport and the event loop share it.
pub type SharedDevice = Arc<Mutex<dyn VirtioDevice>>;

/// Device types (virtio 1.2, section 5).
pub mod device_type {
    /// Network card.
    pub const NET: u32 = 1;
    /// Block device.
    pub const BLOCK: u32 = 2;
    /// Socket device.
    pub const VSOCK: u32 = 19;
}

/// Everything a device needs to run, given to it when the driver has set DRIVER_OK.
#[derive(Debug)]
pub struct Activation {
    /// The queues, in the order of [`VirtioDevice::queue_max_sizes`]; all of them are set up and checked.
    pub queues: Vec<VirtQueue>,
    /// The negotiated feature bits.
    pub features: u64,
    /// Tells the driver about config changes; queues hold their own handle for used buffers.
    pub interrupt: Arc<Interrupt>,
}

/// Why a device could not start. The transport answers with DEVICE_NEEDS_RESET.
#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    /// The transport gave another number of queues than the device has.
    #[error("device wants {wanted} queues and was given {given}")]
    QueueCount {
        /// How many the device has.
        wanted: usize,
        /// How many came.
        given: usize,
    },
    /// The host side of the device could not be prepared.
    #[error("cannot prepare {what}: {source}")]
    Backend {
        /// What was being prepared.
        what: &'static str,
        /// The operating system's reason.
        source: std::io::Error,
    },
}

/// A virtio device model.
pub trait VirtioDevice: EventHandler + Send {
    /// The device type (virtio 1.2, section 5).
    fn device_type(&self) -> u32;

    /// The device's own feature bits; the transport adds those of the ring and of the transport.
    fn features(&self) -> u64;

    /// The largest size of each queue, each a power of two. The length is the number of queues.
    fn queue_max_sizes(&self) -> &[u16];

    /// Reads the config space at `offset`; bytes beyond its end read as zero.
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// Writes the config space. Most devices have nothing writable there.
    fn write_config(&mut self, offset: u64, data: &[u8]) {
        let _ = (offset, data);
    }

    /// Starts the device. Called in the vCPU thread; the work itself begins with the first event.
    ///
    /// # Errors
    ///
    /// The device stays stopped and the driver is told that it needs a reset.
    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError>;

    /// Stops the device and returns it to the state it was created in; it may be activated again afterwards.
    /// Nothing of the old activation (queues, connections) may be used after this returns.
    fn reset(&mut self);
}

/// What the event loop thread calls. Events for a device that is not active may arrive and must be harmless.
pub trait EventHandler {
    /// The driver has added buffers to queue `index`.
    fn on_queue(&mut self, index: usize);

    /// A descriptor that the device asked to be watched is ready.
    fn on_fd(&mut self, token: u32, ready: EventSet) {
        let _ = (token, ready);
    }

    /// Changes to what is watched, oldest first, since this was last called. Asked after every other call.
    fn take_watches(&mut self) -> Vec<Watch> {
        Vec::new()
    }
}

/// A change to the set of descriptors that the event loop watches for a device.
#[derive(Debug)]
pub enum Watch {
    /// Start watching `fd`, which stays open until `Remove` or `Close`.
    Add {
        /// The descriptor.
        fd: RawFd,
        /// Given back to [`EventHandler::on_fd`]; below [`Watch::TOKENS`].
        token: u32,
        /// What to wait for.
        events: EventSet,
    },
    /// Stop watching a descriptor that stays open.
    Remove(RawFd),
    /// Stop watching a descriptor and close it.
    Close(OwnedFd),
}

impl Watch {
    /// Tokens of devices are below this; the rest are queue events.
    pub const TOKENS: u32 = 1 << 31;
}
