//! What the guest tells of its memory (virtio 1.2, section 5.5.6.4), and the clock by which it is asked.
//!
//! The driver leaves one buffer with the device. The device returns it when it wants to know, and the driver puts it
//! back with the answer.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use event_manager::EventSet;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustix::time::{timerfd_create, timerfd_settime};
use serde::{Deserialize, Serialize};

use crate::memory::GuestMemory;
use crate::virtio::device::Watch;
use crate::virtio::segments::{Segments, SegmentsError};

/// A 16-bit tag and a 64-bit value.
const ENTRY_SIZE: usize = 10;
/// More than the 16 tags there are.
const MAX_ENTRIES: usize = 64;

/// The guest's memory as its driver sees it; what it does not tell is `None`. The names are those of Firecracker's API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuestStats {
    /// Bytes read from swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_in: Option<u64>,
    /// Bytes written to swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_out: Option<u64>,
    /// Page faults that needed a disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major_faults: Option<u64>,
    /// Page faults that did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor_faults: Option<u64>,
    /// Bytes that are used for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_memory: Option<u64>,
    /// All bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_memory: Option<u64>,
    /// Bytes that programs could still have, without swapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_memory: Option<u64>,
    /// Bytes of files that could be read from disk again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_caches: Option<u64>,
    /// Huge pages allocated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hugetlb_allocations: Option<u64>,
    /// Huge pages that could not be allocated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hugetlb_failures: Option<u64>,
    /// Processes killed for want of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_kill: Option<u64>,
    /// Allocations that had to wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alloc_stall: Option<u64>,
    /// Pages looked at by the background reclaimer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub async_scan: Option<u64>,
    /// Pages looked at by those who needed some at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct_scan: Option<u64>,
    /// Pages that the background reclaimer got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub async_reclaim: Option<u64>,
    /// Pages that those got who needed some at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct_reclaim: Option<u64>,
}

/// The balloon's sizes and the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BalloonStats {
    /// Pages of 4 KiB that the balloon is to have.
    pub target_pages: u32,
    /// Pages that it has, as the driver says.
    pub actual_pages: u32,
    /// `target_pages` in whole MiB.
    pub target_mib: u32,
    /// `actual_pages` in whole MiB.
    pub actual_mib: u32,
    /// The last answer.
    #[serde(flatten)]
    pub guest: GuestStats,
}

impl GuestStats {
    /// Takes over what the driver has put into `buffer`. Tags that are not known are passed over.
    ///
    /// # Errors
    ///
    /// The buffer is not in guest memory.
    pub fn update(&mut self, memory: &GuestMemory, mut buffer: Segments) -> Result<(), SegmentsError> {
        let count = (buffer.len() / ENTRY_SIZE).min(MAX_ENTRIES);
        let mut bytes = [0; ENTRY_SIZE * MAX_ENTRIES];
        let bytes = &mut bytes[..count * ENTRY_SIZE];
        buffer.take_front(bytes.len()).copy_to(memory, bytes)?;
        let (entries, _) = bytes.as_chunks::<ENTRY_SIZE>();
        for &[a, b, ref value @ ..] in entries {
            if let Some(figure) = self.figure(u16::from_le_bytes([a, b])) {
                *figure = Some(u64::from_le_bytes(*value));
            }
        }
        Ok(())
    }

    /// The figure with this tag (`VIRTIO_BALLOON_S_…`; those from 10 on are newer than virtio 1.2).
    fn figure(&mut self, tag: u16) -> Option<&mut Option<u64>> {
        Some(match tag {
            0 => &mut self.swap_in,
            1 => &mut self.swap_out,
            2 => &mut self.major_faults,
            3 => &mut self.minor_faults,
            4 => &mut self.free_memory,
            5 => &mut self.total_memory,
            6 => &mut self.available_memory,
            7 => &mut self.disk_caches,
            8 => &mut self.hugetlb_allocations,
            9 => &mut self.hugetlb_failures,
            10 => &mut self.oom_kill,
            11 => &mut self.alloc_stall,
            12 => &mut self.async_scan,
            13 => &mut self.direct_scan,
            14 => &mut self.async_reclaim,
            15 => &mut self.direct_reclaim,
            _ => return None,
        })
    }
}

/// Says when to ask.
#[derive(Debug)]
pub struct PollTimer {
    timer: OwnedFd,
    /// The event loop has been told of it.
    watched: bool,
}

impl PollTimer {
    /// A timer that fires every `seconds`; never for 0.
    ///
    /// # Errors
    ///
    /// The host gives no timer.
    pub fn new(seconds: u16) -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = Self { timer: timerfd_create(TimerfdClockId::Monotonic, flags)?, watched: false };
        timer.set(seconds)?;
        Ok(timer)
    }

    /// Fires every `seconds` from now on; never for 0.
    ///
    /// # Errors
    ///
    /// What the host says.
    pub fn set(&self, seconds: u16) -> io::Result<()> {
        let period = Timespec { tv_sec: i64::from(seconds), tv_nsec: 0 };
        let setting = Itimerspec { it_interval: period, it_value: period };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting)?;
        Ok(())
    }

    /// Whether it has fired since it was last asked.
    pub fn has_fired(&self) -> bool {
        rustix::io::read(&self.timer, &mut [0; 8]).is_ok()
    }

    /// The wish to be told when it fires, with `token`, if the event loop does not have it yet.
    pub fn take_watch(&mut self, token: u32) -> Option<Watch> {
        let wish = Watch::Add { fd: self.timer.as_raw_fd(), token, events: EventSet::IN };
        (!std::mem::replace(&mut self.watched, true)).then_some(wish)
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress};

    use super::*;

    fn told(entries: &[(u16, u64)], cut: usize) -> GuestStats {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        let bytes: Vec<u8> = entries
            .iter()
            .flat_map(|(tag, value)| [&tag.to_le_bytes()[..], &value.to_le_bytes()[..]].concat())
            .collect();
        memory.write_slice(&bytes, GuestAddress(0x100)).unwrap();
        let mut buffer = Segments::default();
        buffer.push(GuestAddress(0x100), u32::try_from(bytes.len() - cut).unwrap());
        let mut stats = GuestStats::default();
        stats.update(&memory, buffer).unwrap();
        stats
    }

    #[test]
    fn figures_go_where_their_tags_say_and_the_last_one_counts() {
        let stats = told(&[(5, 1 << 40), (4, 7), (0xffff, 1), (16, 2), (4, 8)], 0);
        let wanted =
            GuestStats { total_memory: Some(1 << 40), free_memory: Some(8), ..GuestStats::default() };
        assert_eq!(stats, wanted);
    }

    #[test]
    fn every_tag_has_a_figure_of_its_own() {
        let stats = told(&(0..16).map(|tag| (tag, u64::from(tag))).collect::<Vec<_>>(), 0);
        let json = serde_json::to_value(stats).unwrap();
        let mut values: Vec<u64> = json.as_object().unwrap().values().map(|v| v.as_u64().unwrap()).collect();
        values.sort_unstable();
        assert_eq!(values, (0..16).collect::<Vec<_>>());
        assert_eq!((&json["swap_in"], &json["hugetlb_failures"]), (&0.into(), &9.into()));
    }

    #[test]
    fn half_an_entry_and_more_than_a_guest_can_have_to_say_are_left_out() {
        assert_eq!(told(&[(4, 7), (5, 8)], 1).total_memory, None);
        let mut endless = vec![(99, 1); MAX_ENTRIES];
        endless.push((4, 7));
        assert_eq!(told(&endless, 0), GuestStats::default());
    }

    #[test]
    fn the_api_shows_sizes_and_only_known_figures() {
        let guest = GuestStats { free_memory: Some(5), ..GuestStats::default() };
        let stats =
            BalloonStats { target_pages: 512, actual_pages: 256, target_mib: 2, actual_mib: 1, guest };
        let wanted = serde_json::json!({
            "target_pages": 512, "actual_pages": 256, "target_mib": 2, "actual_mib": 1, "free_memory": 5
        });
        assert_eq!(serde_json::to_value(stats).unwrap(), wanted);
    }

    #[test]
    fn the_timer_fires_only_when_it_is_set() {
        let mut timer = PollTimer::new(0).unwrap();
        assert!(timer.take_watch(1).is_some() && timer.take_watch(1).is_none());
        assert!(!timer.has_fired());
    }
}
