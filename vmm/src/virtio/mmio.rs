//! The virtio-mmio transport, version 2 (virtio 1.2, section 4.2): what the guest sees of a device on the
//! bus.
//!
//! [`MmioTransport`] owns features, status and queue set-up; the device model behind it is a
//! [`VirtioDevice`]. Notifications normally arrive through ioeventfds on the [`MmioTransport::queue_events`];
//! a plain register write works too. Neighbours: [`crate::virtio::status`] (the state machine),
//! [`crate::virtio::queue_setup`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_CONFIG, VIRTIO_MMIO_CONFIG_GENERATION, VIRTIO_MMIO_DEVICE_FEATURES,
    VIRTIO_MMIO_DEVICE_FEATURES_SEL, VIRTIO_MMIO_DEVICE_ID, VIRTIO_MMIO_DRIVER_FEATURES,
    VIRTIO_MMIO_DRIVER_FEATURES_SEL, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INTERRUPT_STATUS,
    VIRTIO_MMIO_MAGIC_VALUE, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, VIRTIO_MMIO_QUEUE_AVAIL_LOW,
    VIRTIO_MMIO_QUEUE_DESC_HIGH, VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_NOTIFY, VIRTIO_MMIO_QUEUE_NUM,
    VIRTIO_MMIO_QUEUE_NUM_MAX, VIRTIO_MMIO_QUEUE_READY, VIRTIO_MMIO_QUEUE_SEL, VIRTIO_MMIO_QUEUE_USED_HIGH,
    VIRTIO_MMIO_QUEUE_USED_LOW, VIRTIO_MMIO_SHM_BASE_HIGH, VIRTIO_MMIO_SHM_BASE_LOW,
    VIRTIO_MMIO_SHM_LEN_HIGH, VIRTIO_MMIO_SHM_LEN_LOW, VIRTIO_MMIO_STATUS, VIRTIO_MMIO_VENDOR_ID,
    VIRTIO_MMIO_VERSION,
};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::QueueT;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use serde::{Deserialize, Serialize};

use crate::bus::BusDevice;
use crate::interrupt::InterruptLine;
use crate::memory::GuestMemory;
use crate::virtio::attach::{self, AttachError, Attachment, EventLoop};
use crate::virtio::device::{ActivateError, Activation, QueuePosition, RestoreError, SharedDevice};
use crate::virtio::interrupt::{Interrupt, SharedRegisters};
use crate::virtio::queue_setup::{Half, QueueSetup, QueueSetupError};
use crate::virtio::status::{self, Transition};
use crate::virtio::virtqueue::VirtQueue;

/// Bytes of guest physical address space that a device takes.
pub const MMIO_SIZE: u64 = 0x1000;
/// Offset of QueueNotify, where ioeventfds are registered with the queue's index as data match.
pub const QUEUE_NOTIFY: u64 = VIRTIO_MMIO_QUEUE_NOTIFY as u64;

/// "virt", little endian.
const MAGIC: u32 = 0x7472_6976;
/// "crv", with a zero; the vendor is ours to choose.
const VENDOR: u32 = 0x0076_7263;
const CONFIG: u64 = VIRTIO_MMIO_CONFIG as u64;

/// What every device offers besides its own features.
const TRANSPORT_FEATURES: u64 =
    1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_INDIRECT_DESC | 1 << VIRTIO_RING_F_EVENT_IDX;

/// Why a device could not be started when the driver said DRIVER_OK.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A queue is not set up as it must be.
    #[error("queue {index}: {source}")]
    Queue {
        /// Which one.
        index: usize,
        /// What is wrong with it.
        source: QueueSetupError,
    },
    /// No descriptors are left.
    #[error("cannot duplicate the event of queue {index}: {source}")]
    Event {
        /// Of which queue.
        index: usize,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The device.
    #[error(transparent)]
    Device(#[from] ActivateError),
    /// The device's own state, in a snapshot.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

/// The registers that the driver writes: plain data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportState {
    /// The status register, without NEEDS_RESET.
    pub status: u32,
    /// The features that the driver chose.
    pub driver_features: u64,
    /// DeviceFeaturesSel.
    pub device_features_select: u32,
    /// DriverFeaturesSel.
    pub driver_features_select: u32,
    /// QueueSel.
    pub queue_select: u32,
    /// The queues.
    pub queues: Vec<QueueSetup>,
}

impl TransportState {
    fn new(max_sizes: &[u16]) -> Self {
        Self {
            status: 0,
            driver_features: 0,
            device_features_select: 0,
            driver_features_select: 0,
            queue_select: 0,
            queues: max_sizes.iter().map(|&size| QueueSetup::new(size)).collect(),
        }
    }

    fn queue(&self) -> Option<&QueueSetup> {
        self.queues.get(usize::try_from(self.queue_select).ok()?)
    }

    fn queue_mut(&mut self) -> Option<&mut QueueSetup> {
        self.queues.get_mut(usize::try_from(self.queue_select).ok()?)
    }
}

/// A virtio device on the MMIO bus.
pub struct MmioTransport {
    pub(super) device: SharedDevice,
    pub(super) device_type: u32,
    pub(super) device_features: u64,
    pub(super) state: TransportState,
    pub(super) registers: Arc<SharedRegisters>,
    line: Arc<dyn InterruptLine>,
    memory: GuestMemory,
    pub(super) queue_events: Arc<[EventFd]>,
    pub(super) active: Arc<AtomicBool>,
    lifecycle: Arc<EventFd>,
}

impl MmioTransport {
    /// A transport for `device`, whose queues lie in `memory` and which interrupts the guest through `line`.
    ///
    /// # Errors
    ///
    /// No event descriptors can be had.
    pub fn new(device: SharedDevice, memory: GuestMemory, line: Arc<dyn InterruptLine>) -> io::Result<Self> {
        let (device_type, device_features, state) = {
            let device = attach::lock(&device);
            let state = TransportState::new(device.queue_max_sizes());
            (device.device_type(), device.features() | (TRANSPORT_FEATURES & device.ring_features()), state)
        };
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC);
        let queue_events = state.queues.iter().map(|_| event()).collect::<io::Result<Arc<[_]>>>()?;
        Ok(Self {
            device,
            device_type,
            device_features,
            state,
            registers: Arc::default(),
            line,
            memory,
            queue_events,
            active: Arc::default(),
            lifecycle: Arc::new(event()?),
        })
    }

    /// Why there can be no snapshot of a machine with this device, if so.
    pub fn refuses_snapshot(&self) -> Option<&'static str> {
        attach::lock(&self.device).refuses_snapshot()
    }

    /// The event of each queue, to be registered as ioeventfd at [`QUEUE_NOTIFY`] with the index as data
    /// match.
    pub fn queue_events(&self) -> &[EventFd] {
        &self.queue_events
    }

    /// Puts the device on the event loop: from DRIVER_OK until reset its queues and descriptors are polled
    /// there.
    ///
    /// # Errors
    ///
    /// The event loop takes no more descriptors.
    pub fn attach(&self, events: &mut EventLoop) -> Result<(), AttachError> {
        attach::attach(self.attachment(), events)
    }

    fn attachment(&self) -> Attachment {
        Attachment::new(
            Arc::clone(&self.device),
            Arc::clone(&self.queue_events),
            Arc::clone(&self.active),
            Arc::clone(&self.lifecycle),
        )
    }

    /// The status register as the driver reads it.
    pub fn status(&self) -> u32 {
        let needs_reset = if self.registers.needs_reset() { status::NEEDS_RESET } else { 0 };
        self.state.status | needs_reset
    }

    /// The driver's registers.
    pub fn state(&self) -> &TransportState {
        &self.state
    }

    fn read_register(&self, offset: u32) -> u32 {
        match offset {
            VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            VIRTIO_MMIO_VERSION => 2,
            VIRTIO_MMIO_DEVICE_ID => self.device_type,
            VIRTIO_MMIO_VENDOR_ID => VENDOR,
            VIRTIO_MMIO_DEVICE_FEATURES => half(self.device_features, self.state.device_features_select),
            VIRTIO_MMIO_QUEUE_NUM_MAX => self.state.queue().map_or(0, |queue| u32::from(queue.max_size)),
            VIRTIO_MMIO_QUEUE_READY => self.state.queue().map_or(0, |queue| u32::from(queue.ready)),
            VIRTIO_MMIO_INTERRUPT_STATUS => self.registers.interrupt_status(),
            VIRTIO_MMIO_STATUS => self.status(),
            // No shared memory regions: length and base of all ones (section 4.2.2).
            VIRTIO_MMIO_SHM_LEN_LOW
            | VIRTIO_MMIO_SHM_LEN_HIGH
            | VIRTIO_MMIO_SHM_BASE_LOW
            | VIRTIO_MMIO_SHM_BASE_HIGH => u32::MAX,
            VIRTIO_MMIO_CONFIG_GENERATION => self.registers.config_generation(),
            _ => 0,
        }
    }

    fn write_register(&mut self, offset: u32, value: u32) {
        match offset {
            VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.state.device_features_select = value,
            VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.state.driver_features_select = value,
            VIRTIO_MMIO_DRIVER_FEATURES => self.choose_features(value),
            VIRTIO_MMIO_QUEUE_SEL => self.state.queue_select = value,
            VIRTIO_MMIO_QUEUE_NOTIFY => self.notify_queue(value),
            VIRTIO_MMIO_INTERRUPT_ACK => self.registers.acknowledge(value),
            VIRTIO_MMIO_STATUS => self.write_status(value),
            VIRTIO_MMIO_QUEUE_NUM
            | VIRTIO_MMIO_QUEUE_READY
            | VIRTIO_MMIO_QUEUE_DESC_LOW
            | VIRTIO_MMIO_QUEUE_DESC_HIGH
            | VIRTIO_MMIO_QUEUE_AVAIL_LOW
            | VIRTIO_MMIO_QUEUE_AVAIL_HIGH
            | VIRTIO_MMIO_QUEUE_USED_LOW
            | VIRTIO_MMIO_QUEUE_USED_HIGH => self.set_up_queue(offset, value),
            _ => tracing::debug!(offset, value, "ignored a write of a virtio register"),
        }
    }

    fn choose_features(&mut self, value: u32) {
        if !status::may_negotiate(self.state.status) {
            tracing::debug!(status = self.state.status, "ignored features written out of turn");
            return;
        }
        let chosen = &mut self.state.driver_features;
        match self.state.driver_features_select {
            0 => *chosen = Half::Low.replace(*chosen, value),
            1 => *chosen = Half::High.replace(*chosen, value),
            _ => {}
        }
    }

    fn set_up_queue(&mut self, offset: u32, value: u32) {
        if !status::may_set_up_queues(self.state.status) {
            tracing::debug!(status = self.state.status, offset, "ignored queue set-up out of turn");
            return;
        }
        let Some(queue) = self.state.queue_mut() else { return };
        match offset {
            VIRTIO_MMIO_QUEUE_READY => queue.ready = value == 1,
            // A ready queue must not be changed (section 4.2.2.2).
            _ if queue.ready => {}
            VIRTIO_MMIO_QUEUE_NUM => queue.size = value,
            VIRTIO_MMIO_QUEUE_DESC_LOW => queue.descriptors = Half::Low.replace(queue.descriptors, value),
            VIRTIO_MMIO_QUEUE_DESC_HIGH => queue.descriptors = Half::High.replace(queue.descriptors, value),
            VIRTIO_MMIO_QUEUE_AVAIL_LOW => queue.available = Half::Low.replace(queue.available, value),
            VIRTIO_MMIO_QUEUE_AVAIL_HIGH => queue.available = Half::High.replace(queue.available, value),
            VIRTIO_MMIO_QUEUE_USED_LOW => queue.used = Half::Low.replace(queue.used, value),
            VIRTIO_MMIO_QUEUE_USED_HIGH => queue.used = Half::High.replace(queue.used, value),
            _ => {}
        }
    }

    fn notify_queue(&self, index: u32) {
        let event = usize::try_from(index).ok().and_then(|index| self.queue_events.get(index));
        if let Some(event) = event
            && let Err(error) = event.write(1)
        {
            tracing::error!(%error, index, "cannot notify a virtqueue");
        }
    }

    fn write_status(&mut self, value: u32) {
        match status::transition(self.state.status, value) {
            Transition::Reset => self.reset(),
            Transition::Set(status) => self.state.status = status,
            Transition::Negotiate(status) => {
                if self.features_agreed() {
                    self.state.status = status;
                } else if self.registers.may_complain() {
                    let (offered, chosen) = (self.device_features, self.state.driver_features);
                    tracing::warn!("a driver chose features {chosen:#x} of the {offered:#x} offered");
                }
            }
            Transition::Activate(status) => {
                self.state.status = status;
                if let Err(error) = self.start(&[]) {
                    if self.registers.may_complain() {
                        tracing::warn!(%error, device_type = self.device_type, "cannot start a virtio device");
                    }
                    self.interrupt().device_needs_reset();
                }
            }
            Transition::Refuse => {
                tracing::debug!(status = self.state.status, value, "refused a virtio status");
            }
        }
    }

    /// Nothing that was not offered, and always VERSION_1: there is no legacy interface here.
    pub(super) fn features_agreed(&self) -> bool {
        let chosen = self.state.driver_features;
        chosen & !self.device_features == 0 && chosen & (1 << VIRTIO_F_VERSION_1) != 0
    }

    fn interrupt(&self) -> Interrupt {
        Interrupt::new(Arc::clone(&self.registers), Arc::clone(&self.line))
    }

    /// Starts the device with its queues at the beginning, or at `positions`.
    pub(super) fn start(&mut self, positions: &[QueuePosition]) -> Result<(), StartError> {
        let interrupt = Arc::new(self.interrupt());
        let features = self.state.driver_features;
        let event_idx = features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0;
        let ready = self.state.queues.iter().rposition(|queue| queue.ready).map_or(0, |last| last + 1);
        let wanted = ready.max(attach::lock(&self.device).required_queues());
        let mut queues = Vec::with_capacity(wanted);
        let setups = self.state.queues.iter().zip(self.queue_events.iter()).take(wanted);
        for (index, (setup, event)) in setups.enumerate() {
            let mut ring =
                setup.build(&self.memory, event_idx).map_err(|source| StartError::Queue { index, source })?;
            if let Some(position) = positions.get(index) {
                ring.set_next_avail(position.next_available);
                ring.set_next_used(position.next_used);
            }
            let event = event.try_clone().map_err(|source| StartError::Event { index, source })?;
            queues.push(VirtQueue::new(ring, self.memory.clone(), event, Arc::clone(&interrupt)));
        }
        attach::lock(&self.device).activate(Activation { queues, features, interrupt })?;
        self.set_active(true);
        Ok(())
    }

    fn reset(&mut self) {
        // Waits for a request in progress: after this the device touches guest memory no more.
        if self.active.load(Ordering::SeqCst) {
            attach::lock(&self.device).reset();
            self.set_active(false);
        }
        let max_sizes: Vec<u16> = self.state.queues.iter().map(|queue| queue.max_size).collect();
        self.state = TransportState::new(&max_sizes);
        self.registers.reset();
    }

    /// Has the event loop start or stop polling.
    fn set_active(&self, active: bool) {
        self.active.store(active, Ordering::SeqCst);
        if let Err(error) = self.lifecycle.write(1) {
            tracing::error!(%error, "cannot wake the event loop");
        }
    }
}

impl BusDevice for MmioTransport {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if offset >= CONFIG {
            attach::lock(&self.device).read_config(offset - CONFIG, data);
        } else if let (Ok(register), Ok(word)) = (u32::try_from(offset), <&mut [u8; 4]>::try_from(data)) {
            // Registers are read as aligned 32-bit words only; anything else reads as zero (section 4.2.2.2).
            *word = self.read_register(register).to_le_bytes();
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if offset >= CONFIG {
            attach::lock(&self.device).write_config(offset - CONFIG, data);
        } else if let (Ok(register), Ok(word)) = (u32::try_from(offset), <[u8; 4]>::try_from(data)) {
            self.write_register(register, u32::from_le_bytes(word));
        }
    }
}

impl std::fmt::Debug for MmioTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MmioTransport")
            .field("device_type", &self.device_type)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Bits 32·`select` to 32·`select`+31 of `features`.
fn half(features: u64, select: u32) -> u32 {
    match select {
        0 => (features & 0xffff_ffff) as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
