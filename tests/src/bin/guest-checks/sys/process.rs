//! Processes by fork, and what becomes of them.

use std::ffi::CString;
use std::io;

/// How a process ended or stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this exit code.
    Exited(i32),
    /// Killed by this signal.
    Killed(i32),
    /// Stopped by this signal, for its tracer.
    Stopped(i32),
}

/// A child process, which must be waited for.
#[derive(Debug)]
#[must_use]
pub(crate) struct Child(libc::pid_t);

/// Runs `work` in a child, which exits with what it returns.
///
/// # Errors
/// There is no memory or process left.
pub(crate) fn fork(work: impl FnOnce() -> i32) -> io::Result<Child> {
    // SAFETY: checks have one thread when they fork, so the child may go on as if it were the parent.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = work();
            // SAFETY: ends the child without the parent's clean-up, which is not its own.
            unsafe { libc::_exit(code) }
        }
        pid => Ok(Child(pid)),
    }
}

/// Runs `work` in a child and waits for its end.
///
/// # Errors
/// There is no memory or process left.
pub(crate) fn in_child(work: impl FnOnce() -> i32) -> io::Result<Ended> {
    fork(work)?.wait()
}

impl Child {
    /// Its process id.
    pub(crate) fn pid(&self) -> libc::pid_t {
        self.0
    }

    /// Waits until it ends, or stops if it is traced.
    ///
    /// # Errors
    /// It was waited for already.
    pub(crate) fn wait(&self) -> io::Result<Ended> {
        let mut status = 0;
        // SAFETY: `status` is a live int.
        while unsafe { libc::waitpid(self.0, &raw mut status, 0) } == -1 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(if libc::WIFEXITED(status) {
            Ended::Exited(libc::WEXITSTATUS(status))
        } else if libc::WIFSIGNALED(status) {
            Ended::Killed(libc::WTERMSIG(status))
        } else {
            Ended::Stopped(libc::WSTOPSIG(status))
        })
    }

    /// Ends it.
    ///
    /// # Errors
    /// It was waited for already.
    pub(crate) fn kill(&self) -> io::Result<Ended> {
        // SAFETY: the process is a child that was not waited for, so the id is still its.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        self.wait()
    }
}

/// Kills the calling process with SIGALRM when it still runs after that many seconds.
pub(crate) fn alarm(seconds: u32) {
    // SAFETY: takes a number.
    unsafe { libc::alarm(seconds) };
}

/// Mounts a file system without a source.
///
/// # Errors
/// The kernel's own.
pub(crate) fn mount(kind: &str, at: &str) -> io::Result<()> {
    std::fs::create_dir_all(at)?;
    let (kind, at) = (CString::new(kind)?, CString::new(at)?);
    // SAFETY: the strings live across the call, and no data are passed.
    let failed = unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    // The kernel mounts /dev by itself where it is configured so.
    let error = io::Error::last_os_error();
    if failed == 0 || error.raw_os_error() == Some(libc::EBUSY) { Ok(()) } else { Err(error) }
}
