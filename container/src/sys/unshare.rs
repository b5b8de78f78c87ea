//! `unshare(2)` of the namespaces that cannot be made at clone time.

use rustix::io::Errno;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Makes a cgroup namespace whose root is the cgroup this process is in now.
pub(crate) fn unshare_cgroup() -> Result<(), Errno> {
    // SAFETY: the hazard is CLONE_FILES, which is not asked for.
    unsafe { unshare_unsafe(UnshareFlags::NEWCGROUP) }
}

/// Makes a time namespace. This process stays in the one it is in: its clocks can be set until somebody enters.
pub(crate) fn unshare_time() -> Result<(), Errno> {
    // SAFETY: the hazard is CLONE_FILES, which is not asked for.
    unsafe { unshare_unsafe(UnshareFlags::NEWTIME) }
}
