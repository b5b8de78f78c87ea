//! The vsock device model: moves packets between the queues and the [`Muxer`].

use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use event_manager::EventSet;
use serde::Deserialize;

use crate::virtio::config_space;
use crate::virtio::device::{
    ActivateError, Activation, Counter, QueuePosition, RestoreError, VirtioDevice, Watch, device_type,
};
use crate::virtio::virtqueue::{BUDGET, VirtQueue};
use crate::virtio::vsock::config::{self, VsockConfig};
use crate::virtio::vsock::events::EventQueue;
use crate::virtio::vsock::host_socket::Listener;
use crate::virtio::vsock::muxer::Muxer;
use crate::virtio::vsock::persist::VsockState;

/// The queues: receive, transmit, events. The guest fills the first one with buffers of 4 KiB while it boots; these hold
/// what a connection may have under way, and are replaced once half of them are used, whether a program has read or not.
const QUEUE_SIZES: [u16; 3] = [64, 256, 16];
/// Index of the queue whose buffers the device fills.
pub(super) const RECEIVE: usize = 0;
/// Index of the queue with the guest's packets.
pub(super) const TRANSMIT: usize = 1;
/// Index of the queue whose buffers tell of events.
pub(super) const EVENTS: usize = 2;
/// Token of the listening socket; streams have higher ones.
pub(super) const LISTENER: u32 = 0;

/// CIDs below this are reserved (virtio 1.2, section 5.10.4), and the topmost means "any".
const FIRST_CID: u32 = 3;

/// The device cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum VsockError {
    /// A CID that means something else.
    #[error("CID {0} is reserved; use one from 3 to 4294967294")]
    Cid(u32),
    /// The socket cannot be had.
    #[error("cannot listen at {path}: {source}; choose another path, of at most 107 bytes")]
    Listen {
        /// Where.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
}

/// A virtio socket device.
#[derive(Debug)]
pub struct Vsock {
    cid: u32,
    listener: Listener,
    muxer: Muxer,
    queues: Option<Queues>,
    watches: Vec<Watch>,
}

/// What exists only while the device is active.
#[derive(Debug)]
struct Queues {
    receive: VirtQueue,
    transmit: VirtQueue,
    events: EventQueue,
    /// The guest's packets wait until it has taken some of ours.
    stalled: bool,
}

impl Vsock {
    /// Listens at the path. Clients are answered once the guest's driver is up.
    ///
    /// # Errors
    ///
    /// [`VsockError`] names the path or CID.
    pub fn new(config: &VsockConfig) -> Result<Self, VsockError> {
        if config.cid < FIRST_CID || config.cid == u32::MAX {
            return Err(VsockError::Cid(config.cid));
        }
        let listener = Listener::bind(&config.uds_path)
            .map_err(|source| VsockError::Listen { path: config.uds_path.clone(), source })?;
        Ok(Self {
            cid: config.cid,
            listener,
            muxer: Muxer::new(config.cid, config.uds_path.clone()),
            queues: None,
            watches: Vec::new(),
        })
    }

    /// Takes the guest's packets.
    pub(super) fn process_transmit(&mut self) {
        let Self { muxer, queues: Some(queues), .. } = self else { return };
        if queues.events.holds() {
            return;
        }
        queues.stalled = false;
        queues.transmit.serve(|memory, chain| {
            if muxer.is_overloaded() {
                queues.stalled = true;
                return None;
            }
            match chain.defect {
                None => muxer.consume(memory, chain.readable),
                Some(defect) => muxer.drop_malformed(defect),
            }
            Some(0)
        });
        self.fill_receive();
    }

    /// Fills the guest's buffers as far as there are both buffers and something to say.
    pub(super) fn fill_receive(&mut self) {
        let Self { muxer, queues: Some(queues), .. } = self else { return };
        if queues.events.holds() {
            return;
        }
        let receive = &mut queues.receive;
        // The guest need not tell of new buffers unless we run out of them.
        receive.pause_notifications();
        let (mut taken, mut returned) = (0, false);
        while muxer.has_something() && taken < BUDGET {
            let Some(chain) = receive.pop() else {
                if receive.resume_notifications() {
                    receive.pause_notifications();
                    continue;
                }
                break;
            };
            taken += 1;
            let written = match chain.defect {
                None => muxer.produce(receive.memory(), chain.writable),
                Some(defect) => {
                    tracing::debug!(%defect, "malformed vsock buffer");
                    Some(0)
                }
            };
            match written {
                Some(written) => {
                    receive.add_used(chain.head, written);
                    returned = true;
                }
                None => receive.undo_pop(),
            }
        }
        if returned {
            receive.signal();
        }
        if taken == BUDGET && muxer.has_something() {
            receive.wake();
        }
        if queues.stalled && !muxer.is_overloaded() {
            queues.transmit.wake();
        }
    }

    /// Lets waiting host clients in.
    pub(super) fn accept_clients(&mut self) {
        if self.queues.as_ref().is_none_or(|queues| queues.events.holds()) {
            return;
        }
        while let Some(stream) = self.listener.accept() {
            self.muxer.add_client(stream);
        }
    }

    /// Tells the guest what there is to tell, and goes on with what has waited for it to hear that.
    pub(super) fn process_events(&mut self) {
        let Some(queues) = &mut self.queues else { return };
        if queues.events.process() {
            queues.transmit.wake();
            self.accept_clients();
            self.fill_receive();
        }
    }

    /// A stream of the host's is ready.
    pub(super) fn on_stream(&mut self, token: u32, ready: EventSet) {
        self.muxer.on_stream(token, ready);
        self.fill_receive();
    }

    /// Own changes first: they include those of an earlier life.
    pub(super) fn collect_watches(&mut self) -> Vec<Watch> {
        let mut watches = std::mem::take(&mut self.watches);
        watches.extend(self.muxer.take_watches());
        watches
    }
}

impl VirtioDevice for Vsock {
    fn device_type(&self) -> u32 {
        device_type::VSOCK
    }

    /// None: streams need no feature bit, and there are no seqpacket sockets.
    fn features(&self) -> u64 {
        0
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        config_space::read(&config::config_space(self.cid), offset, data);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let given = activation.queues.len();
        let [receive, transmit, events] = <[VirtQueue; 3]>::try_from(activation.queues)
            .map_err(|_| ActivateError::QueueCount { wanted: QUEUE_SIZES.len(), given })?;
        let events = EventQueue::new(events);
        self.queues = Some(Queues { receive, transmit, events, stalled: false });
        // Edge-triggered: when descriptors run out, a waiting client must not keep the event loop spinning.
        self.watches.push(Watch::Add {
            fd: self.listener.socket().as_raw_fd(),
            token: LISTENER,
            events: EventSet::IN | EventSet::EDGE_TRIGGERED,
        });
        Ok(())
    }

    fn reset(&mut self) {
        if self.queues.take().is_some() {
            self.muxer.clear();
            self.watches.extend(self.muxer.take_watches());
            self.watches.push(Watch::Remove(self.listener.socket().as_raw_fd()));
        }
    }

    fn positions(&mut self) -> Vec<QueuePosition> {
        let positions = |queues: &Queues| {
            [&queues.receive, &queues.transmit, queues.events.queue()].map(VirtQueue::position).to_vec()
        };
        self.queues.as_ref().map_or_else(Vec::new, positions)
    }

    fn save(&self) -> serde_json::Value {
        let state = VsockState { next_host_port: self.muxer.next_host_port() };
        serde_json::to_value(state).unwrap_or_default()
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<(), RestoreError> {
        let VsockState { next_host_port } = VsockState::deserialize(state)?;
        self.muxer.set_next_host_port(next_host_port);
        if let Some(queues) = &mut self.queues {
            queues.events.owe_reset();
            queues.events.queue().wake();
        }
        Ok(())
    }

    fn counters(&self) -> Vec<Counter> {
        self.muxer.counts().counters()
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers in tests are small")]
mod tests;
