//! A machine that comes to rest: memory of the VMM's own that only the machine's beginning needed goes back to the host.
//!
//! Nobody says when a guest has booted and its app runs. So it is done when the machine is 1, 2, 4, 8… seconds old, each
//! time for what half of its life so far has needed, and no more once it is old: an idle machine is not to be woken up for
//! ever. Little is lost where it was too early, as code comes back from the page cache, some ten pages with each fault.

use std::time::{Duration, Instant};

use crate::sys::code_pages::CodePages;
use crate::sys::heap;

/// Age at the first time. Machines that do not grow that old have nothing to do with it.
const FIRST: Duration = Duration::from_secs(1);
/// Age at the last time, at most.
const LAST: Duration = Duration::from_secs(2048);

/// What is to be given back, and when.
#[derive(Debug)]
pub(super) struct Settling {
    code: CodePages,
    born: Instant,
    /// Age at the next time.
    next: Option<Duration>,
}

impl Settling {
    /// Of a machine that begins now, in a process whose code is `code`.
    pub(super) fn begin(now: Instant, code: CodePages) -> Self {
        Self { code, born: now, next: Some(FIRST) }
    }

    /// Milliseconds from `now` until there is something to be done, rounded up; -1 if there is not, as for epoll(2).
    pub(super) fn due_in_ms(&self, now: Instant) -> i32 {
        let Some(next) = self.next else { return -1 };
        let left = next.saturating_sub(now - self.born);
        i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
    }

    /// Does it, if it is time to.
    pub(super) fn attend(&mut self, now: Instant) {
        let age = now - self.born;
        let Some(next) = self.next.filter(|next| age >= *next) else { return };
        let mut later = next * 2;
        while later <= age {
            later *= 2;
        }
        self.next = Some(later).filter(|later| *later <= LAST);
        if let Err(error) = self.code.give_back() {
            tracing::debug!(%error, "code that is no longer needed stays resident");
        }
        heap::trim();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_done_ever_more_rarely_and_ends() {
        let born = Instant::now();
        let mut settling = Settling::begin(born, CodePages::find().unwrap());
        let mut times = Vec::new();
        for ms in (0..4_000_000).step_by(500) {
            let now = born + Duration::from_millis(ms);
            if settling.due_in_ms(now) == 0 {
                times.push(ms / 1000);
            }
            settling.attend(now);
        }
        assert_eq!(times, (0..=11).map(|power| 1 << power).collect::<Vec<u64>>());
        assert_eq!(settling.due_in_ms(born), -1);
    }

    #[test]
    fn what_was_slept_through_is_not_done_twice() {
        let born = Instant::now();
        let mut settling = Settling::begin(born, CodePages::find().unwrap());
        assert_eq!(settling.due_in_ms(born + Duration::from_micros(998_500)), 2);
        let late = born + Duration::from_secs(9);
        settling.attend(late);
        assert_eq!(settling.due_in_ms(late), 7000);
    }
}
