//! What a device model adds to the transport: the [`VirtioDevice`] and [`EventHandler`] traits.
//!
//! The transport owns queues, features and status until the driver says DRIVER_OK; then it hands the device
//! an [`Activation`]. A device never touches epoll: it says what it wants watched ([`Watch`]) and is called
//! back.

use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Arc, Mutex};

use event_manager::EventSet;
use serde::{Deserialize, Serialize};

use crate::virtio::interrupt::Interrupt;
use crate::virtio::vhost_user::VhostUserError;
use crate::virtio::virtqueue::VirtQueue;

/// A device as the transport and the event loop share it.
pub type SharedDevice = Arc<Mutex<dyn VirtioDevice>>;

/// Device types (virtio 1.2, section 5).
pub mod device_type {
    /// Network card.
    pub const NET: u32 = 1;
    /// Block device.
    pub const BLOCK: u32 = 2;
    /// Console.
    pub const CONSOLE: u32 = 3;
    /// Entropy device.
    pub const RNG: u32 = 4;
    /// Traditional memory balloon.
    pub const BALLOON: u32 = 5;
    /// Socket device.
    pub const VSOCK: u32 = 19;
    /// File system.
    pub const FS: u32 = 26;
    /// Persistent memory.
    pub const PMEM: u32 = 27;
}

/// How far a queue has been served: what a snapshot keeps of it besides its set-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePosition {
    /// Index of the next chain to take from the available ring.
    pub next_available: u16,
    /// Index of the next place in the used ring.
    pub next_used: u16,
}

/// A figure that a device has counted since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counter {
    /// What was counted, in the words of Firecracker's metrics where it has one: `read_bytes`.
    pub name: &'static str,
    /// How many.
    pub value: u64,
}

/// A snapshot's state of a device cannot be put back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is not the state of such a device.
    #[error("the state is not one of this kind of device: {0}")]
    Form(#[from] serde_json::Error),
    /// It does not go with the device as it is configured now.
    #[error("the state does not fit the device: {0}")]
    Mismatch(String),
}

/// Everything a device needs to run, given to it when the driver has set DRIVER_OK.
#[derive(Debug)]
pub struct Activation {
    /// The queues, in the order of [`VirtioDevice::queue_max_sizes`]; all of them are set up and checked. The last ones are
    /// missing if the driver left them out, see [`VirtioDevice::required_queues`].
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
    /// The process that is to serve the device does not.
    #[error(transparent)]
    VhostUser(#[from] VhostUserError),
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

    /// How many queues from the first on the driver must set up; it may leave the others out.
    fn required_queues(&self) -> usize {
        self.queue_max_sizes().len()
    }

    /// Which of the ring's features (indirect descriptors, event index) whoever serves the queues can do.
    fn ring_features(&self) -> u64 {
        u64::MAX
    }

    /// Whether the event loop waits for the driver's notifications and calls [`EventHandler::on_queue`]. A device whose
    /// queues another process serves leaves them to it.
    fn serves_queues(&self) -> bool {
        true
    }

    /// Why there can be no snapshot of a machine with this device, if so.
    fn refuses_snapshot(&self) -> Option<&'static str> {
        None
    }

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

    /// Where each queue stands, in their order; none if the device is not active. Asked while the vCPUs are paused:
    /// the device first finishes what is in flight. A chain that was taken and cannot be returned yet, like an empty
    /// receive buffer, counts as not taken. The device goes on afterwards.
    fn positions(&mut self) -> Vec<QueuePosition>;

    /// What a snapshot keeps of the device besides features and queues.
    fn save(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Puts back what [`Self::save`] returned. The device has been activated, its queues at their positions.
    ///
    /// # Errors
    ///
    /// The state is another device's or damaged.
    fn restore(&mut self, state: &serde_json::Value) -> Result<(), RestoreError> {
        let _ = state;
        Ok(())
    }

    /// What the device has counted since it was made.
    fn counters(&self) -> Vec<Counter> {
        Vec::new()
    }
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
