//! `delete`: removes what a container that has ended leaves, whatever became of it.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::error::RuntimeError;
use super::events::timespec;
use super::record::{Process, Record};
use super::state::{self, Status};
use super::store::{Entry, Locked};
use crate::sys;

/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Deletes it.
pub(super) fn delete(entry: &Entry, force: bool) -> Result<(), RuntimeError> {
    let locked = entry.lock()?;
    match entry.record() {
        Ok(Some(record)) => {
            let status = state::status(entry, &record)?;
            if status != Status::Stopped && !force {
                return Err(RuntimeError::WrongStatus { verb: "delete", id: entry.id.clone(), status });
            }
            remove(locked, &record)
        }
        // Nothing was made before the record was written.
        Ok(None) => locked.remove(),
        Err(error) if !force => Err(error),
        Err(error) => {
            tracing::warn!("{error}; its processes and its cgroup, if there are any, are left as they are");
            locked.remove()
        }
    }
}

/// Ends the container and removes all that is recorded of it.
pub(super) fn remove(locked: Locked<'_>, record: &Record) -> Result<(), RuntimeError> {
    let cgroup = locked.entry().cgroup(record)?;
    if let Some(init) = record.init
        && let Some(pidfd) = init.open()?
    {
        let _gone_already = sys::send_signal(pidfd.as_fd(), libc::SIGKILL);
        cgroup.let_die();
        wait_for_end(init, pidfd.as_fd());
    }
    cgroup.remove()?;
    finish(locked, record)
}

/// Removes what is written down, and runs the hooks that follow. They clean up, so whoever is killed meanwhile leaves the
/// record to the next command, which runs them once more. That one removes the record first: a hook that does not end must
/// not keep it for ever.
fn finish(locked: Locked<'_>, record: &Record) -> Result<(), RuntimeError> {
    let first_time = !record.poststop.is_empty() && !record.poststop_begun;
    let begun = || Record { poststop_begun: true, ..record.clone() };
    // Where nothing can be written any more, removing comes first.
    if first_time && locked.write_record(&begun()).is_ok() {
        record.run_poststop_hooks();
        return locked.remove();
    }
    locked.remove()?;
    record.run_poststop_hooks();
    Ok(())
}

/// Waits for the end of a process that was killed; one that cannot end yet is the kernel's. Its descriptor says at once when
/// it is gone, but not when it only waits for others to be reaped.
fn wait_for_end(init: Process, pidfd: BorrowedFd<'_>) {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    while matches!(
        poll(&mut [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)], Some(&timespec(pause))),
        Ok(0) | Err(Errno::INTR)
    ) {
        if !init.is_alive() || Instant::now() > deadline {
            return;
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
