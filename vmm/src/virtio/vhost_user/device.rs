//! The device that the transport sees, whatever its kind: it hands the queues over and passes interrupts on.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use event_manager::EventSet;
use rustix::event::{EventfdFlags, eventfd};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;

use super::VhostUserError;
use super::backend::{Backend, shared_memory};
use crate::memory::GuestMemory;
use crate::virtio::config_space;
use crate::virtio::device::{ActivateError, Activation, Counter, QueuePosition, VirtioDevice, Watch};
use crate::virtio::interrupt::Interrupt;

/// Tokens of the event loop: the backend has returned buffers; it says something unasked, or is gone.
pub(super) const CALL: u32 = 0;
pub(super) const SOCKET: u32 = 1;

/// What distinguishes kinds of devices.
#[derive(Debug)]
pub(crate) struct Kind {
    /// The device type (virtio 1.2, section 5).
    pub(crate) device_type: u32,
    /// The device's own features that the driver may have, as far as the backend has them.
    pub(crate) features: u64,
    /// The largest size of each queue.
    pub(crate) queue_sizes: Vec<u16>,
    /// How many queues from the first on the driver must set up.
    pub(crate) required_queues: usize,
    /// Who has the config space.
    pub(crate) config: ConfigSpace,
}

/// Where the config space is.
#[derive(Debug)]
pub(crate) enum ConfigSpace {
    /// Here.
    Here(Vec<u8>),
    /// The backend has it.
    Backend {
        /// How many bytes.
        len: usize,
        /// Bytes that are this side's to say, and where.
        ours: (usize, Vec<u8>),
    },
}

/// A device whose queues a backend serves.
#[derive(Debug)]
pub struct VhostUser {
    kind: Kind,
    config: Vec<u8>,
    socket: PathBuf,
    features: u64,
    /// `None` when it is gone, for good: a jailed VMM could not reach another one.
    backend: Option<Backend>,
    /// How the backend tells that it has returned buffers.
    call: OwnedFd,
    active: Option<Active>,
    watches: Vec<Watch>,
    interrupts: u64,
    failures: u64,
}

/// What is there between activation and reset.
#[derive(Debug)]
struct Active {
    queues: u32,
    interrupt: Arc<Interrupt>,
}

impl VhostUser {
    /// A device of this kind, served by the backend at `socket`, for a guest with `memory`.
    ///
    /// # Errors
    /// There is no backend, it cannot do what is needed, or the memory cannot be shared.
    pub(crate) fn connect(kind: Kind, socket: &Path, memory: &GuestMemory) -> Result<Self, VhostUserError> {
        shared_memory(memory)?;
        let backend = Backend::connect(socket)?;
        let features = backend.features();
        if features & (1 << VIRTIO_F_VERSION_1) == 0 {
            return Err(VhostUserError::Lacks { socket: socket.into(), what: "virtio 1" });
        }
        backend.check_queues(kind.queue_sizes.len())?;
        let config = match &kind.config {
            ConfigSpace::Here(bytes) => bytes.clone(),
            ConfigSpace::Backend { len, ours: (at, bytes) } => {
                let mut config = backend.config(*len)?;
                if let Some(place) = config.get_mut(*at..at.saturating_add(bytes.len())) {
                    place.copy_from_slice(bytes);
                }
                config
            }
        };
        let call = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io::Error::from)?;
        Ok(Self {
            kind,
            config,
            call,
            socket: socket.into(),
            features,
            backend: Some(backend),
            active: None,
            watches: Vec::new(),
            interrupts: 0,
            failures: 0,
        })
    }

    /// The backend has returned buffers.
    pub(super) fn pass_interrupt_on(&mut self) {
        if !self.take_call() {
            return;
        }
        if let Some(active) = &self.active {
            self.interrupts += 1;
            active.interrupt.used_buffers();
        }
    }

    /// Whether the backend has called since this was last asked.
    fn take_call(&self) -> bool {
        rustix::io::read(&self.call, &mut [0; 8]).is_ok()
    }

    /// The backend seemed to say something unasked, which it must not, or to be gone. (What seemed so may have been an
    /// answer, to a reset in the vCPU's thread.)
    pub(super) fn look_at_backend(&mut self) {
        if self.backend.as_ref().is_some_and(Backend::is_ready) {
            self.fail(&VhostUserError::Gone);
        }
    }

    /// What is to be watched from now on.
    pub(super) fn take_own_watches(&mut self) -> Vec<Watch> {
        std::mem::take(&mut self.watches)
    }

    fn fail(&mut self, error: &VhostUserError) {
        if let Some(backend) = self.backend.take() {
            let socket = self.socket.display();
            tracing::warn!(
                %error,
                "the device that the backend at {socket} served is dead; the machine goes on without it"
            );
            self.failures += 1;
            self.watches.push(Watch::Close(backend.into_fd()));
            if let Some(active) = &self.active {
                active.interrupt.device_needs_reset();
            }
        }
    }

    fn start(&mut self, activation: &Activation) -> Result<(), VhostUserError> {
        let backend = self.backend.as_ref().ok_or(VhostUserError::Gone)?;
        self.take_call();
        if let Some(queue) = activation.queues.first() {
            let (memory, queues) = (queue.memory(), &activation.queues);
            backend.start(memory, queues, activation.features, self.call.as_fd())?;
        }
        let watch = |fd, token| Watch::Add { fd, token, events: EventSet::IN };
        self.watches.push(watch(self.call.as_raw_fd(), CALL));
        self.watches.push(watch(backend.raw_fd(), SOCKET));
        Ok(())
    }
}

impl VirtioDevice for VhostUser {
    fn device_type(&self) -> u32 {
        self.kind.device_type
    }

    fn features(&self) -> u64 {
        self.kind.features & self.features
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &self.kind.queue_sizes
    }

    fn required_queues(&self) -> usize {
        self.kind.required_queues
    }

    fn ring_features(&self) -> u64 {
        self.features
    }

    fn serves_queues(&self) -> bool {
        false
    }

    fn refuses_snapshot(&self) -> Option<&'static str> {
        Some("another process serves one of its devices (vhost-user) and does not tell how far it has got")
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        config_space::read(&self.config, offset, data);
    }

    /// A backend that does not take part is left alone from then on.
    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        if let Err(error) = self.start(&activation) {
            self.watches.extend(self.backend.take().map(|backend| Watch::Close(backend.into_fd())));
            return Err(error.into());
        }
        let queues = u32::try_from(activation.queues.len()).unwrap_or(u32::MAX);
        self.active = Some(Active { queues, interrupt: activation.interrupt });
        Ok(())
    }

    /// A backend that does not stop may go on changing the guest's memory: it is left alone, and warned of.
    fn reset(&mut self) {
        let Some(active) = self.active.take() else { return };
        self.watches.push(Watch::Remove(self.call.as_raw_fd()));
        let Some(backend) = &self.backend else { return };
        match backend.stop(active.queues) {
            Ok(()) => self.watches.push(Watch::Remove(backend.raw_fd())),
            Err(error) => self.fail(&error),
        }
    }

    fn positions(&mut self) -> Vec<QueuePosition> {
        Vec::new()
    }

    fn counters(&self) -> Vec<Counter> {
        vec![
            Counter { name: "call_count", value: self.interrupts },
            Counter { name: "backend_fails", value: self.failures },
        ]
    }
}

#[cfg(test)]
mod tests;
