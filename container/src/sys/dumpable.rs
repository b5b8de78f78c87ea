//! `PR_SET_DUMPABLE` (prctl(2)): who may look into this process.

use rustix::io::Errno;

use super::check;

/// Closes `/proc/PID/exe`, `fd`, `mem` and so on, and ptrace, to everybody without CAP_SYS_PTRACE in the user
/// namespace that this process came from: not to the container that it enters. Ends with the next exec.
pub(crate) fn forbid_inspection() -> Result<(), Errno> {
    // SAFETY: takes plain numbers.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }.into()).map(|_| ())
}
