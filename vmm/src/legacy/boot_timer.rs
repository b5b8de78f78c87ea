//! The boot timer: a byte written to its port becomes a boot event, so that a guest can mark how far it has come on
//! the same clock as the VMM. The agent and tiny test guests use it.

use std::sync::Arc;

use crate::bus::BusDevice;
use crate::events::{BootEvent, EventSink, Milestone};
use crate::machine::{Requests, VmExit};

/// The I/O port, unused on PCs since the floppy controller's second status register.
pub const BOOT_TIMER_PORT: u64 = 0x03f0;

/// Most marks recorded: a guest must not fill anyone's log.
const MAX_MARKS: u32 = 1024;

/// The device.
pub(crate) struct BootTimer {
    events: Arc<dyn EventSink>,
    marks: u32,
    last: Option<(u8, Arc<Requests>)>,
}

impl BootTimer {
    /// A timer that records into `events`.
    pub(crate) fn new(events: Arc<dyn EventSink>) -> Self {
        Self { events, marks: 0, last: None }
    }

    /// The guest ends when it writes `mark`, before its next instruction.
    pub(crate) fn stop_at(&mut self, mark: u8, requests: Arc<Requests>) {
        self.last = Some((mark, requests));
    }
}

impl BusDevice for BootTimer {
    fn read(&mut self, _: u64, data: &mut [u8]) {
        data.fill(0xff);
    }

    fn write(&mut self, _: u64, data: &[u8]) {
        if let (&[mark], true) = (data, self.marks < MAX_MARKS) {
            self.marks += 1;
            self.events.record(BootEvent::now(Milestone::GuestMark(mark)));
        }
        if let (&[mark], Some((last, requests))) = (data, &self.last)
            && mark == *last
        {
            requests.end(VmExit::Stopped);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::cpu::Action;

    #[test]
    fn each_byte_is_a_mark_up_to_a_limit() {
        let events = Arc::new(Mutex::new(Vec::new()));
        let mut timer = BootTimer::new(events.clone());
        timer.write(0, &[123]);
        assert_eq!(events.lock().unwrap()[0].milestone, Milestone::GuestMark(123));
        for _ in 0..5000 {
            timer.write(0, &[1]);
        }
        assert_eq!(events.lock().unwrap().len(), MAX_MARKS as usize);
    }

    #[test]
    fn only_the_mark_that_was_waited_for_ends_the_guest() {
        let requests = Arc::<Requests>::default();
        let mut timer = BootTimer::new(Arc::new(Mutex::new(Vec::new())));
        timer.stop_at(7, requests.clone());
        timer.write(0, &[6]);
        assert_eq!(requests.take(0), Action::Resume);
        timer.write(0, &[7]);
        assert_eq!(requests.take(0), Action::Stop(VmExit::Stopped));
    }
}
