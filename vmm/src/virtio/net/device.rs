//! The network card: features, config space, and when the tap is watched.

use std::io;

use event_manager::EventSet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use virtio_bindings::virtio_net::{VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU};

use crate::virtio::config_space;
use crate::virtio::device::{
    ActivateError, Activation, Counter, QueuePosition, RestoreError, VirtioDevice, Watch, device_type,
};
use crate::virtio::net::config::{MIN_MTU, NetConfig};
use crate::virtio::net::counts::Counts;
use crate::virtio::net::mac::MacAddress;
use crate::virtio::net::receive::{Receiver, Stopped};
use crate::virtio::net::tap::{FrameIo, Tap};
use crate::virtio::net::transmit::transmit;
use crate::virtio::rate_limit::{RateLimiter, RateLimiterConfig, SavedLimits};
use crate::virtio::virtqueue::VirtQueue;

/// The queues: receive, transmit.
const QUEUE_SIZES: [u16; 2] = [256, 256];
/// Index of the queue with the guest's empty buffers.
pub(super) const RECEIVE: usize = 0;
/// Index of the queue with the guest's frames.
pub(super) const TRANSMIT: usize = 1;
/// Tokens of the tap and of the limits' timers.
pub(super) const TAP: u32 = 0;
pub(super) const RECEIVE_TIMER: u32 = 1;
pub(super) const TRANSMIT_TIMER: u32 = 2;

/// The card cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A group address.
    #[error("a network card cannot have the group address {0}; use one whose first byte is even")]
    Mac(MacAddress),
    /// Too small for IPv4.
    #[error("an MTU of {0} is too small; use {MIN_MTU} or more")]
    Mtu(u16),
    /// Its rate limits need timers.
    #[error("the host gives no timer for a rate limit; raise the limit of open files: {0}")]
    Timer(#[from] io::Error),
}

/// A virtio network card.
#[derive(Debug)]
pub struct Net<T: FrameIo = Tap> {
    config: NetConfig,
    tap: T,
    queues: Option<Queues>,
    receive_limit: RateLimiter,
    transmit_limit: RateLimiter,
    counts: Counts,
    /// The event loop watches the tap, or will as soon as it has carried out `watches`.
    watching: bool,
    watches: Vec<Watch>,
}

/// What exists only while the device is active.
#[derive(Debug)]
struct Queues {
    receiver: Receiver,
    transmit: VirtQueue,
}

/// What a snapshot keeps of a card: what has been used of its limits.
#[derive(Debug, Serialize, Deserialize)]
struct Limits {
    receive: SavedLimits,
    transmit: SavedLimits,
}

impl<T: FrameIo> Net<T> {
    /// A card on `tap`.
    ///
    /// # Errors
    ///
    /// An address or MTU that no card can have, or no timers for its limits.
    pub fn new(config: &NetConfig, tap: T) -> Result<Self, NetError> {
        if let Some(mac) = config.mac.filter(|mac| mac.is_group()) {
            return Err(NetError::Mac(mac));
        }
        if config.mtu < MIN_MTU {
            return Err(NetError::Mtu(config.mtu));
        }
        Ok(Self {
            receive_limit: RateLimiter::new(&config.rx_rate_limiter)?,
            transmit_limit: RateLimiter::new(&config.tx_rate_limiter)?,
            config: config.clone(),
            tap,
            queues: None,
            counts: Counts::default(),
            watching: false,
            watches: Vec::new(),
        })
    }

    /// Moves frames to the guest, and watches the tap exactly while the guest can take more and the limit lets it.
    pub(super) fn receive(&mut self) {
        let Some(queues) = &mut self.queues else { return };
        let stopped = queues.receiver.receive(&self.tap, &mut self.receive_limit, &mut self.counts);
        self.watch(stopped == Stopped::Drained);
    }

    /// The tap is gone, most likely because somebody deleted the interface. Watching it would keep the event
    /// loop busy; the next receive buffer of the guest's has it tried again.
    pub(super) fn on_tap_broken(&mut self) {
        if self.watching {
            tracing::warn!(mac = ?self.config.mac, "the tap of a network card is gone");
            self.watch(false);
        }
    }

    /// Sends what the guest has queued.
    pub(super) fn transmit(&mut self) {
        let Some(queues) = &mut self.queues else { return };
        transmit(&mut queues.transmit, &self.tap, &mut self.transmit_limit, &mut self.counts);
    }

    /// A limit admits frames again.
    pub(super) fn on_timer(&mut self, token: u32) {
        if token == RECEIVE_TIMER {
            self.receive_limit.on_timer();
            self.receive();
        } else {
            self.transmit_limit.on_timer();
            self.transmit();
        }
    }

    /// Changes the limits that are named, see [`RateLimiter::update`]; frames that wait for them are looked at anew.
    ///
    /// # Errors
    ///
    /// The host gives no timer; the limit of frames to the guest may have changed already.
    pub fn update_limits(
        &mut self,
        receive: &RateLimiterConfig,
        transmit: &RateLimiterConfig,
    ) -> io::Result<()> {
        self.receive_limit.update(receive)?;
        self.transmit_limit.update(transmit)?;
        if let Some(queues) = &self.queues {
            queues.receiver.wake();
            queues.transmit.wake();
        }
        Ok(())
    }

    fn watch(&mut self, wanted: bool) {
        if self.watching == wanted {
            return;
        }
        let fd = self.tap.fd();
        self.watches.push(if wanted {
            Watch::Add { fd, token: TAP, events: EventSet::IN }
        } else {
            Watch::Remove(fd)
        });
        self.watching = wanted;
    }

    pub(super) fn collect_watches(&mut self) -> Vec<Watch> {
        let mut watches = std::mem::take(&mut self.watches);
        watches.extend(self.receive_limit.take_watch(RECEIVE_TIMER));
        watches.extend(self.transmit_limit.take_watch(TRANSMIT_TIMER));
        watches
    }
}

impl<T: FrameIo> VirtioDevice for Net<T> {
    fn device_type(&self) -> u32 {
        device_type::NET
    }

    fn features(&self) -> u64 {
        let mac = if self.config.mac.is_some() { 1 << VIRTIO_NET_F_MAC } else { 0 };
        mac | 1 << VIRTIO_NET_F_MTU | 1 << VIRTIO_NET_F_MRG_RXBUF | self.tap.offloads()
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        config_space::read(&self.config.config_space(), offset, data);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let given = activation.queues.len();
        let [receive, transmit] = <[VirtQueue; 2]>::try_from(activation.queues)
            .map_err(|_| ActivateError::QueueCount { wanted: QUEUE_SIZES.len(), given })?;
        self.tap
            .set_offloads(activation.features)
            .map_err(|source| ActivateError::Backend { what: "the tap's offloads", source })?;
        let receiver = Receiver::new(receive, activation.features, self.config.mtu);
        self.queues = Some(Queues { receiver, transmit });
        self.watch(true);
        Ok(())
    }

    fn reset(&mut self) {
        self.queues = None;
        self.watch(false);
        if let Err(error) = self.tap.set_offloads(0) {
            tracing::debug!(%error, "cannot take back a tap's offloads");
        }
    }

    fn positions(&mut self) -> Vec<QueuePosition> {
        let positions = |queues: &Queues| vec![queues.receiver.position(), queues.transmit.position()];
        self.queues.as_ref().map_or_else(Vec::new, positions)
    }

    fn save(&self) -> Value {
        let limits = Limits { receive: self.receive_limit.save(), transmit: self.transmit_limit.save() };
        // Numbers alone: this cannot fail.
        serde_json::to_value(limits).unwrap_or_default()
    }

    fn restore(&mut self, state: &Value) -> Result<(), RestoreError> {
        let limits = Limits::deserialize(state)?;
        self.receive_limit.restore(&limits.receive);
        self.transmit_limit.restore(&limits.transmit);
        Ok(())
    }

    fn counters(&self) -> Vec<Counter> {
        self.counts.counters()
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers in tests are small")]
mod tests;
