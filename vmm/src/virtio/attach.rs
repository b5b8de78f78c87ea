//! Wiring between a device and the event loop thread.
//!
//! An [`Attachment`] is always subscribed to one event, the transport's *lifecycle*. When that fires it looks
//! whether the device is active and starts or stops polling the queue events; after every call into the
//! device it carries out the [`Watch`] changes that the device asks for. So a reset in the vCPU thread is
//! complete when the device's lock is released, and its descriptors leave epoll soon after, in the thread
//! that owns epoll, before they are closed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use vmm_sys_util::eventfd::EventFd;

use crate::virtio::device::{SharedDevice, Watch};

/// Anything that lives on the event loop.
pub type Subscriber = Box<dyn MutEventSubscriber + Send>;
/// The event loop that drives all devices.
pub type EventLoop = EventManager<Subscriber>;

const QUEUE_TOKEN: u32 = Watch::TOKENS;
const LIFECYCLE_TOKEN: u32 = u32::MAX;

/// A device could not be put on the event loop.
#[derive(Debug, thiserror::Error)]
#[error("cannot put a device on the event loop: {0}")]
pub struct AttachError(#[from] event_manager::Error);

/// One device's subscription to the event loop.
pub struct Attachment {
    device: SharedDevice,
    queue_events: Arc<[EventFd]>,
    active: Arc<AtomicBool>,
    lifecycle: Arc<EventFd>,
    polling: bool,
}

/// Locks a device. A panic under the lock ends the process in release builds, so a poisoned lock is only seen
/// in tests.
pub(crate) fn lock<T: ?Sized>(device: &Mutex<T>) -> MutexGuard<'_, T> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Subscribes `attachment` to the event loop.
pub(crate) fn attach(attachment: Attachment, events: &mut EventLoop) -> Result<(), AttachError> {
    let lifecycle = Arc::clone(&attachment.lifecycle);
    let id = events.add_subscriber(Box::new(attachment));
    let event = Events::with_data(lifecycle.as_ref(), LIFECYCLE_TOKEN, EventSet::IN);
    events.event_ops(id)?.add(event)?;
    Ok(())
}

impl Attachment {
    pub(crate) fn new(
        device: SharedDevice,
        queue_events: Arc<[EventFd]>,
        active: Arc<AtomicBool>,
        lifecycle: Arc<EventFd>,
    ) -> Self {
        Self { device, queue_events, active, lifecycle, polling: false }
    }

    /// Polls the queue events exactly while the device is active, if it serves its queues itself.
    fn follow_lifecycle(&mut self, serves_queues: bool, ops: &mut EventOps) {
        let active = self.active.load(Ordering::SeqCst) && serves_queues;
        if active == self.polling {
            return;
        }
        for (event, token) in self.queue_events.iter().zip(QUEUE_TOKEN..) {
            let events = Events::with_data(event, token, EventSet::IN);
            report(if active { ops.add(events) } else { ops.remove(events) });
        }
        self.polling = active;
    }
}

impl MutEventSubscriber for Attachment {
    fn init(&mut self, _ops: &mut EventOps) {}

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        let shared = Arc::clone(&self.device);
        let mut device = lock(&shared);
        match events.data() {
            LIFECYCLE_TOKEN => {
                drain(&self.lifecycle);
                self.follow_lifecycle(device.serves_queues(), ops);
            }
            token @ QUEUE_TOKEN.. => {
                let index = (token - QUEUE_TOKEN) as usize;
                if let Some(event) = self.queue_events.get(index) {
                    drain(event);
                    device.on_queue(index);
                }
            }
            token => device.on_fd(token, events.event_set()),
        }
        for change in device.take_watches() {
            apply(change, ops);
        }
    }
}

/// Carries out one change. Descriptors leave epoll before they are closed, or the event loop would lose track
/// of them.
fn apply(change: Watch, ops: &mut EventOps) {
    match change {
        Watch::Add { fd, token, events } => report(ops.add(Events::with_data_raw(fd, token, events))),
        Watch::Remove(fd) => report(ops.remove(Events::empty_raw(fd))),
        Watch::Close(fd) => report(ops.remove(Events::empty(&fd))),
    }
}

/// Sets an event's counter back to zero. It may be zero already: another thread's reset can overtake an
/// event.
fn drain(event: &EventFd) {
    let _ = event.read();
}

fn report(result: event_manager::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "cannot change what the event loop polls");
    }
}
