//! A device with its transport as a snapshot keeps them.
//!
//! The driver's registers and the position of each queue are the transport's, the rest is the device's own. The machine
//! is paused meanwhile. What the queues' events still held is made up for by waking each queue once: a device that finds
//! nothing there goes back to sleep.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::virtio::attach;
use crate::virtio::device::QueuePosition;
use crate::virtio::interrupt::SavedRegisters;
use crate::virtio::mmio::{MmioTransport, StartError, TransportState};

/// The state of a device and its transport.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedDevice {
    /// Its type (virtio 1.2, section 5): a check that it is put back into the same kind of device.
    pub device_type: u32,
    /// What it offered: a driver would not notice that some of it has gone.
    pub features: u64,
    registers: SavedRegisters,
    transport: TransportState,
    /// `None` if the driver had not started it.
    active: Option<SavedActivity>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SavedActivity {
    queues: Vec<QueuePosition>,
    own: serde_json::Value,
}

/// A device cannot be what it was.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// Another kind of device is in its place.
    #[error("the snapshot has a device of type {saved} where this machine has one of type {here}")]
    Type {
        /// The snapshot's.
        saved: u32,
        /// This machine's.
        here: u32,
    },
    /// The guest uses a feature that the device does not have here.
    #[error(
        "the guest uses features {missing:#x} of a device of type {device_type} that are not there any more"
    )]
    Features {
        /// The device.
        device_type: u32,
        /// The bits.
        missing: u64,
    },
    /// Another number of devices.
    #[error("the snapshot has {saved} virtio devices, this machine has {here}")]
    Devices {
        /// The snapshot's.
        saved: usize,
        /// This machine's.
        here: usize,
    },
    /// Another number of queues.
    #[error("the snapshot has {saved} queues for a device of type {device_type} that has {here}")]
    Queues {
        /// The device.
        device_type: u32,
        /// The snapshot's.
        saved: usize,
        /// This machine's.
        here: usize,
    },
    /// It does not start.
    #[error("a device of type {device_type} cannot go on: {source}")]
    Start {
        /// The device.
        device_type: u32,
        /// Why.
        source: StartError,
    },
}

impl MmioTransport {
    /// The state of transport and device. The vCPUs and the event loop are held.
    pub fn save(&self) -> SavedDevice {
        let mut device = attach::lock(&self.device);
        let is_active = self.active.load(Ordering::SeqCst);
        let active = is_active.then(|| SavedActivity { queues: device.positions(), own: device.save() });
        SavedDevice {
            device_type: self.device_type,
            features: self.device_features,
            registers: self.registers.save(),
            transport: self.state.clone(),
            active,
        }
    }

    /// Makes transport and device what they were. They are new, and the guest does not run yet.
    ///
    /// # Errors
    /// The state is another device's, damaged, or the host lacks what the device needs.
    pub fn restore(&mut self, saved: SavedDevice) -> Result<(), PersistError> {
        self.check(&saved)?;
        let max_sizes: Vec<u16> = self.state.queues.iter().map(|queue| queue.max_size).collect();
        self.state = saved.transport;
        for (queue, max_size) in self.state.queues.iter_mut().zip(max_sizes) {
            queue.max_size = max_size;
        }
        self.registers.restore(saved.registers);
        let Some(active) = saved.active else { return Ok(()) };
        let device_type = self.device_type;
        let failed = |source| PersistError::Start { device_type, source };
        self.start(&active.queues).map_err(failed)?;
        // Of devices that kept nothing when the snapshot was taken there is nothing to put back.
        if !active.own.is_null() {
            attach::lock(&self.device).restore(&active.own).map_err(|error| failed(error.into()))?;
        }
        for event in self.queue_events.iter() {
            if let Err(error) = event.write(1) {
                tracing::error!(%error, "cannot wake a virtqueue");
            }
        }
        Ok(())
    }

    fn check(&self, saved: &SavedDevice) -> Result<(), PersistError> {
        let device_type = self.device_type;
        if saved.device_type != device_type {
            return Err(PersistError::Type { saved: saved.device_type, here: device_type });
        }
        let missing = saved.transport.driver_features & !self.device_features;
        if missing != 0 {
            return Err(PersistError::Features { device_type, missing });
        }
        let (saved, here) = (saved.transport.queues.len(), self.state.queues.len());
        if saved != here {
            return Err(PersistError::Queues { device_type, saved, here });
        }
        Ok(())
    }
}
