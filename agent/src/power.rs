//! The end: nothing left running, nothing left unwritten, power off.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_remount};
use rustix::process::{WaitOptions, fchdir, wait};
use rustix::system::{RebootCommand, reboot};

use crate::log;
use crate::sys::signals;

/// Kills every process but the agent and waits until they are gone.
pub(crate) fn end_all_processes() {
    // Fails only when there is none, and then the loop ends at once.
    let _ = signals::kill(-1, libc::SIGKILL);
    while !matches!(wait(WaitOptions::empty()), Err(Errno::CHILD)) {}
}

/// Makes the writable disk clean and resets the machine, which the VMM takes for its end. Returns only where the
/// caller may not do that.
pub(crate) fn off(disk: Option<OwnedFd>) {
    if let Some(disk) = disk {
        // The disk's own path is out of reach below the app's root.
        if let Err(error) = fchdir(&disk).and_then(|()| mount_remount(".", MountFlags::RDONLY, "")) {
            log::say(&format!("cannot make the writable disk read-only: {error}"));
        }
    }
    rustix::fs::sync();
    if let Err(error) = reboot(RebootCommand::Restart) {
        log::say(&format!("cannot power off: {error}"));
    }
}
