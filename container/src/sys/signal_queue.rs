//! `signalfd(2)`: signals as something to wait for, beside other descriptors.

use std::mem;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::io::{Errno, read};

use super::check;

/// All signals of this process, which wait here to be read; dropping it lets them act as before.
///
/// For a process with one thread: others would still get theirs.
pub(crate) struct SignalQueue {
    fd: OwnedFd,
    before: libc::sigset_t,
}

impl SignalQueue {
    /// Holds back signals from now on.
    pub(crate) fn new() -> Result<Self, Errno> {
        // SAFETY: a sigset_t is a plain array of words.
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { mem::zeroed() };
        // SAFETY: `all` is a valid sigset_t to write to.
        unsafe { libc::sigfillset(&raw mut all) };
        // SAFETY: `all` is valid and initialised; the descriptor is a new one.
        let fd = check(
            unsafe { libc::signalfd(-1, &raw const all, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) }.into(),
        )?;
        let fd = i32::try_from(fd).map_err(|_| Errno::BADF)?;
        // SAFETY: the kernel has just made this descriptor, and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: both sets are valid, the first initialised, the second to be written to.
        check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut before) }.into())?;
        Ok(Self { fd, before })
    }

    /// The next signal's number, if one waits.
    pub(crate) fn next(&self) -> Option<i32> {
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        let length = read(&self.fd, &mut info).ok()?;
        // ssi_signo is the first field (signalfd(2)).
        let number = info.first_chunk::<4>().filter(|_| length == info.len())?;
        i32::try_from(u32::from_ne_bytes(*number)).ok()
    }
}

impl AsFd for SignalQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl std::fmt::Debug for SignalQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SignalQueue").field(&self.fd).finish()
    }
}

impl Drop for SignalQueue {
    fn drop(&mut self) {
        // SAFETY: the set is valid and initialised, and no old set is asked for.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}
