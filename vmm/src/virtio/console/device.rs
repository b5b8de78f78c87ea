//! The console device model.

use std::sync::Arc;

use crate::console::{HostEnd, Size};
use crate::virtio::config_space;
use crate::virtio::console::config::{self, F_SIZE};
use crate::virtio::console::receive::Input;
use crate::virtio::console::transmit::Output;
use crate::virtio::device::{
    ActivateError, Activation, Counter, QueuePosition, RestoreError, VirtioDevice, Watch, device_type,
};
use crate::virtio::interrupt::Interrupt;
use crate::virtio::virtqueue::VirtQueue;

/// The queues: receive, transmit.
const QUEUE_SIZES: [u16; 2] = [64, 64];
/// Index of the queue with the guest's empty buffers.
pub(super) const RECEIVE: usize = 0;
/// Index of the queue with what the guest says.
pub(super) const TRANSMIT: usize = 1;
/// Rounds of reading and delivering for one wake-up, after which other devices get their turn.
const ROUNDS: usize = 16;

/// A virtio console.
pub struct Console {
    end: Box<dyn HostEnd>,
    pub(super) size: Size,
    pub(super) input: Input,
    pub(super) output: Output,
    active: Option<Active>,
    delivered: u64,
    /// Called when somebody types that the guest is to end.
    on_escape: Option<Box<dyn Fn() + Send>>,
}

/// What exists only while the device is active.
struct Active {
    receive: VirtQueue,
    transmit: VirtQueue,
    interrupt: Arc<Interrupt>,
}

impl Console {
    /// A console that leads to `end`.
    pub(crate) fn new(end: Box<dyn HostEnd>) -> Self {
        Self {
            size: end.size().unwrap_or_default(),
            end,
            input: Input::default(),
            output: Output::default(),
            active: None,
            delivered: 0,
            on_escape: None,
        }
    }

    /// Has `end_guest` called when Ctrl-A x is typed.
    pub(crate) fn on_escape(&mut self, end_guest: Box<dyn Fn() + Send>) {
        self.on_escape = Some(end_guest);
    }

    /// Tells the guest how large the terminal is now.
    pub fn set_size(&mut self, size: Size) {
        if std::mem::replace(&mut self.size, size) != size
            && let Some(active) = &self.active
        {
            active.interrupt.config_changed();
        }
    }

    /// How large the guest believes the terminal to be.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Moves input to the guest.
    pub(super) fn receive(&mut self) {
        let Some(active) = &mut self.active else { return };
        for round in 1.. {
            let is_dry = self.input.read(&mut *self.end);
            self.delivered += self.input.deliver(&mut active.receive) as u64;
            if is_dry || !self.input.pending.is_empty() {
                break;
            }
            if round == ROUNDS {
                active.receive.wake();
                break;
            }
        }
        if self.end.wants_end()
            && let Some(end_guest) = &self.on_escape
        {
            end_guest();
        }
    }

    /// Writes what the guest has queued.
    pub(super) fn transmit(&mut self) {
        let Some(active) = &mut self.active else { return };
        self.output.transmit(&mut active.transmit, &mut *self.end);
    }

    /// Something has happened on the host's side: there may be input, room for output, another size.
    pub(super) fn on_host_event(&mut self, token: u32) {
        self.end.on_event(token);
        if let Some(size) = self.end.size() {
            self.set_size(size);
        }
        self.receive();
        self.transmit();
    }

    pub(super) fn collect_watches(&mut self) -> Vec<Watch> {
        self.end.take_watches()
    }
}

impl VirtioDevice for Console {
    fn device_type(&self) -> u32 {
        device_type::CONSOLE
    }

    fn features(&self) -> u64 {
        1 << F_SIZE
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        config_space::read(&config::config_space(self.size), offset, data);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let Activation { queues, interrupt, .. } = activation;
        let given = queues.len();
        let [receive, transmit] = <[VirtQueue; 2]>::try_from(queues)
            .map_err(|_| ActivateError::QueueCount { wanted: QUEUE_SIZES.len(), given })?;
        // Linux looks at the size only when it is told that it has changed (config_work_handler in its driver).
        if self.size != Size::default() {
            interrupt.config_changed();
        }
        self.active = Some(Active { receive, transmit, interrupt });
        Ok(())
    }

    /// Input that the guest has not taken stays for its next driver.
    fn reset(&mut self) {
        self.active = None;
        self.output.done = 0;
    }

    /// No chain is kept: output that waits is still in its queue.
    fn positions(&mut self) -> Vec<QueuePosition> {
        let queues = self.active.iter().flat_map(|active| [&active.receive, &active.transmit]);
        queues.map(VirtQueue::position).collect()
    }

    fn save(&self) -> serde_json::Value {
        self.save_state()
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<(), RestoreError> {
        self.restore_state(state)
    }

    fn counters(&self) -> Vec<Counter> {
        [
            ("read_count", self.delivered),
            ("write_count", self.output.written),
            ("missed_write_count", self.output.lost),
        ]
        .map(|(name, value)| Counter { name, value })
        .to_vec()
    }
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").field("end", &self.end).field("size", &self.size).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers in tests are small")]
mod tests;
