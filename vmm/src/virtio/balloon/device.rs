//! The balloon device model.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::memory::{self, GuestMemory};
use crate::virtio::balloon::config::{self, BalloonConfig, ConfigSpace, F_REPORTING, F_STATS_VQ};
use crate::virtio::balloon::pages;
use crate::virtio::balloon::statistics::{BalloonStats, GuestStats, PollTimer};
use crate::virtio::chain::Chain;
use crate::virtio::config_space;
use crate::virtio::device::{
    ActivateError, Activation, Counter, QueuePosition, RestoreError, VirtioDevice, Watch, device_type,
};
use crate::virtio::interrupt::Interrupt;
use crate::virtio::virtqueue::VirtQueue;

/// Descriptors in each queue.
const QUEUE_SIZE: u16 = 128;
/// Requests for one wake-up, after which other devices get their turn: each may be a thousand system calls.
const REQUESTS_PER_WAKE: usize = 16;
/// Token of the statistics' timer.
const TIMER: u32 = 0;

/// A balloon cannot be what it was asked to be.
#[derive(Debug, thiserror::Error)]
pub enum BalloonError {
    /// Larger than the guest.
    #[error("a balloon of {target_mib} MiB does not fit in a guest of {memory_mib} MiB; ask for less")]
    TooLarge {
        /// What was asked for.
        target_mib: u32,
        /// The guest's RAM.
        memory_mib: u32,
    },
    /// Statistics were not configured.
    #[error("this balloon keeps no statistics; give it a polling interval before the guest starts")]
    NoStats,
    /// No timer.
    #[error("the host gives no timer for the balloon's statistics; raise the limit of open files: {0}")]
    Timer(#[from] io::Error),
}

/// What a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Inflate,
    Deflate,
    Stats,
    Reporting,
}

/// A virtio memory balloon.
#[derive(Debug)]
pub struct Balloon {
    pub(super) config: BalloonConfig,
    /// The guest's RAM.
    memory_mib: u32,
    pub(super) space: ConfigSpace,
    features: u64,
    queue_sizes: Vec<u16>,
    pub(super) guest_stats: GuestStats,
    /// Only where there are statistics.
    timer: Option<PollTimer>,
    active: Option<Active>,
    counts: Counts,
}

/// What exists only while the device is active.
#[derive(Debug)]
struct Active {
    queues: Vec<(Role, VirtQueue)>,
    /// The driver's buffer for statistics, until the next question.
    stats_buffer: Option<u16>,
    interrupt: Arc<Interrupt>,
}

/// What it has done since it was made.
#[derive(Debug, Default)]
struct Counts {
    inflate: u64,
    inflate_freed: u64,
    deflate: u64,
    failed: u64,
    stats_updates: u64,
    stats_failed: u64,
    reports: u64,
    report_freed: u64,
    report_failed: u64,
}

impl Balloon {
    /// A balloon for a guest with `memory_mib` of RAM.
    ///
    /// # Errors
    ///
    /// It is to be larger than the guest, or the host gives no timer.
    pub fn new(config: &BalloonConfig, memory_mib: u32) -> Result<Self, BalloonError> {
        let (features, interval) = (config.features(), config.stats_polling_interval_s);
        let mut balloon = Self {
            config: config.clone(),
            memory_mib,
            space: ConfigSpace::default(),
            features,
            queue_sizes: vec![QUEUE_SIZE; roles(features).count()],
            guest_stats: GuestStats::default(),
            timer: if interval > 0 { Some(PollTimer::new(interval)?) } else { None },
            active: None,
            counts: Counts::default(),
        };
        balloon.set_target_mib(config.amount_mib)?;
        Ok(balloon)
    }

    /// Asks the guest to make the balloon this large; it does as well as it can, in its own time.
    ///
    /// # Errors
    ///
    /// The guest has less memory than that.
    pub fn set_target_mib(&mut self, target_mib: u32) -> Result<(), BalloonError> {
        let memory_mib = self.memory_mib;
        if target_mib > memory_mib {
            return Err(BalloonError::TooLarge { target_mib, memory_mib });
        }
        self.config.amount_mib = target_mib;
        self.space.target_pages = config::pages_of_mib(target_mib);
        if let Some(active) = &self.active {
            active.interrupt.config_changed();
        }
        Ok(())
    }

    /// Asks for statistics every `seconds` from now on; no more for 0.
    ///
    /// # Errors
    ///
    /// The balloon was made without statistics.
    pub fn set_stats_interval(&mut self, seconds: u16) -> Result<(), BalloonError> {
        self.timer.as_ref().ok_or(BalloonError::NoStats)?.set(seconds)?;
        self.config.stats_polling_interval_s = seconds;
        Ok(())
    }

    /// The balloon as it was configured, with the changes since.
    pub fn config(&self) -> &BalloonConfig {
        &self.config
    }

    /// The balloon's sizes, and the last that the guest has told.
    pub fn stats(&self) -> BalloonStats {
        let ConfigSpace { target_pages, actual_pages } = self.space;
        BalloonStats {
            target_pages,
            actual_pages,
            target_mib: config::mib_of_pages(target_pages),
            actual_mib: config::mib_of_pages(actual_pages),
            guest: self.guest_stats,
        }
    }

    /// What the queue at `index` is for.
    pub(super) fn role(&self, index: usize) -> Option<Role> {
        Some(self.active.as_ref()?.queues.get(index)?.0)
    }

    /// Gives the pages back that the driver has put into the balloon.
    pub(super) fn inflate(&mut self) {
        let Self { active: Some(active), counts, .. } = self else { return };
        let serve = |memory: &GuestMemory, chain: crate::virtio::chain::Chain| {
            counts.inflate += 1;
            match sound(&chain).and_then(|()| Ok(pages::read(memory, chain.readable)?)) {
                Ok(ranges) => counts.inflate_freed += give_back(memory, ranges, &mut counts.failed),
                Err(error) => {
                    tracing::debug!(%error, "malformed request to inflate a balloon");
                    counts.failed += 1;
                }
            }
        };
        active.serve_some(Role::Inflate, serve);
    }

    /// The driver takes pages out of the balloon. They come back when it touches them.
    pub(super) fn deflate(&mut self) {
        let Self { active: Some(active), counts, .. } = self else { return };
        active.serve_some(Role::Deflate, |_, _| counts.deflate += 1);
    }

    /// Gives free pages back. They are described by the buffers themselves.
    pub(super) fn take_reports(&mut self) {
        let Self { active: Some(active), counts, .. } = self else { return };
        active.serve_some(Role::Reporting, |memory, chain| {
            counts.reports += 1;
            match sound(&chain) {
                Ok(()) => {
                    let ranges = chain.writable.ranges();
                    counts.report_freed += give_back(memory, ranges, &mut counts.report_failed);
                }
                Err(error) => {
                    tracing::debug!(%error, "malformed report of free pages");
                    counts.report_failed += 1;
                }
            }
        });
    }

    /// The driver has put its buffer back, with an answer in it.
    pub(super) fn take_stats(&mut self) {
        let Self { active: Some(active), counts, guest_stats, .. } = self else { return };
        let Some(queue) = active.queues.iter_mut().find(|(role, _)| *role == Role::Stats) else { return };
        let (queue, kept) = (&mut queue.1, &mut active.stats_buffer);
        let mut returned = false;
        // A second buffer replaces the first: one is enough to ask with.
        for _ in 0..REQUESTS_PER_WAKE {
            let Some(chain) = queue.pop() else { break };
            if let Some(head) = kept.replace(chain.head) {
                queue.add_used(head, 0);
                returned = true;
            }
            match sound(&chain).and_then(|()| Ok(guest_stats.update(queue.memory(), chain.readable)?)) {
                Ok(()) => counts.stats_updates += 1,
                Err(error) => {
                    tracing::debug!(%error, "malformed statistics of a balloon");
                    counts.stats_failed += 1;
                }
            }
        }
        if returned {
            queue.signal();
        }
        // The driver is to tell when it puts the buffer back; perhaps it has put another there already.
        if queue.resume_notifications() {
            queue.wake();
        }
    }

    /// Time to ask the guest about its memory.
    pub(super) fn ask_for_stats(&mut self) {
        let fired = self.timer.as_ref().is_some_and(PollTimer::has_fired);
        let Some(active) = self.active.as_mut().filter(|_| fired) else { return };
        let queue = active.queues.iter_mut().find(|(role, _)| *role == Role::Stats);
        if let (Some((_, queue)), Some(head)) = (queue, active.stats_buffer.take()) {
            queue.add_used(head, 0);
            queue.signal();
        }
    }

    pub(super) fn collect_watches(&mut self) -> Vec<Watch> {
        self.timer.as_mut().and_then(|timer| timer.take_watch(TIMER)).into_iter().collect()
    }
}

impl Active {
    /// Serves a few requests of a queue and returns them empty.
    fn serve_some(&mut self, role: Role, mut serve: impl FnMut(&GuestMemory, Chain)) {
        let Some((_, queue)) = self.queues.iter_mut().find(|(other, _)| *other == role) else { return };
        let mut left = REQUESTS_PER_WAKE;
        queue.serve(|memory, chain| {
            left = left.checked_sub(1)?;
            serve(memory, chain);
            Some(0)
        });
        if left == 0 {
            queue.wake();
        }
    }
}

/// Refuses a chain that must not be served.
fn sound(chain: &Chain) -> io::Result<()> {
    chain.defect.map_or(Ok(()), |defect| Err(io::Error::other(defect)))
}

/// Gives ranges of RAM back, and says how many bytes they were. What the host refuses is counted.
fn give_back(memory: &GuestMemory, ranges: impl IntoIterator<Item = Range<u64>>, failed: &mut u64) -> u64 {
    let mut given = 0;
    for range in ranges {
        match memory::give_back(memory, range.clone()) {
            Ok(bytes) => given += bytes,
            Err(error) => {
                tracing::debug!(%error, ?range, "cannot give guest memory back");
                *failed += 1;
            }
        }
    }
    given
}

/// The queues of a driver that has taken `features`, in their order. Linux leaves no places for those it has not taken.
fn roles(features: u64) -> impl Iterator<Item = Role> {
    let has = move |bit: u32| features & (1 << bit) != 0;
    let optional = [(has(F_STATS_VQ), Role::Stats), (has(F_REPORTING), Role::Reporting)];
    let optional = optional.into_iter().filter_map(|(there, role)| there.then_some(role));
    [Role::Inflate, Role::Deflate].into_iter().chain(optional)
}

impl VirtioDevice for Balloon {
    fn device_type(&self) -> u32 {
        device_type::BALLOON
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    /// A driver that does not take the features of the others has no queues for them.
    fn required_queues(&self) -> usize {
        roles(0).count()
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        config_space::read(&self.space.bytes(), offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        self.space.write(offset, data);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let Activation { queues, features, interrupt } = activation;
        let (wanted, given) = (roles(features).count(), queues.len());
        if given != wanted {
            return Err(ActivateError::QueueCount { wanted, given });
        }
        let queues = roles(features).zip(queues).collect();
        self.active = Some(Active { queues, stats_buffer: None, interrupt });
        Ok(())
    }

    /// A driver that starts anew has an empty balloon.
    fn reset(&mut self) {
        self.active = None;
        self.space.actual_pages = 0;
        self.guest_stats = GuestStats::default();
    }

    fn positions(&mut self) -> Vec<QueuePosition> {
        let Some(active) = &self.active else { return Vec::new() };
        let position = |(role, queue): &(Role, VirtQueue)| {
            let kept = *role == Role::Stats && active.stats_buffer.is_some();
            let QueuePosition { next_available, next_used } = queue.position();
            QueuePosition { next_available: next_available.wrapping_sub(u16::from(kept)), next_used }
        };
        active.queues.iter().map(position).collect()
    }

    fn save(&self) -> serde_json::Value {
        self.save_state()
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<(), RestoreError> {
        self.restore_state(state)
    }

    fn counters(&self) -> Vec<Counter> {
        let counts = &self.counts;
        [
            ("inflate_count", counts.inflate),
            ("inflate_freed", counts.inflate_freed),
            ("deflate_count", counts.deflate),
            ("event_fails", counts.failed),
            ("stats_updates_count", counts.stats_updates),
            ("stats_update_fails", counts.stats_failed),
            ("free_page_report_count", counts.reports),
            ("free_page_report_freed", counts.report_freed),
            ("free_page_report_fails", counts.report_failed),
        ]
        .map(|(name, value)| Counter { name, value })
        .to_vec()
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers in tests are small")]
mod tests;
