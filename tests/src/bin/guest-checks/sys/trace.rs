//! Looks at another process as a debugger does.

use std::io;
use std::ptr;

use super::process::{Child, Ended, fork};

/// A stopped child.
#[derive(Debug)]
pub(crate) struct Traced(Child);

/// Starts `work` in a child that is stopped at its beginning.
///
/// # Errors
/// It does not stop.
pub(crate) fn start(work: impl FnOnce() -> i32) -> io::Result<Traced> {
    let child = fork(|| {
        let nothing = ptr::null_mut::<libc::c_void>();
        // SAFETY: asks to be traced, which takes no address.
        unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, nothing, nothing) };
        // SAFETY: takes a number.
        unsafe { libc::raise(libc::SIGSTOP) };
        work()
    })?;
    match child.wait()? {
        Ended::Stopped(libc::SIGSTOP) => Ok(Traced(child)),
        other => Err(io::Error::other(format!("{other:?} where it was to stop"))),
    }
}

impl Traced {
    /// Lets it run one instruction.
    ///
    /// # Errors
    /// It is not stopped.
    pub(crate) fn step(&self) -> io::Result<Ended> {
        self.request(libc::PTRACE_SINGLESTEP, 0, 0)?;
        self.0.wait()
    }

    /// Lets it run until something happens.
    ///
    /// # Errors
    /// It is not stopped.
    pub(crate) fn go_on(&self) -> io::Result<Ended> {
        self.request(libc::PTRACE_CONT, 0, 0)?;
        self.0.wait()
    }

    /// Its registers.
    ///
    /// # Errors
    /// It is not stopped.
    pub(crate) fn registers(&self) -> io::Result<libc::user_regs_struct> {
        // SAFETY: all zeroes are valid registers.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        self.request(libc::PTRACE_GETREGS, 0, (&raw mut registers).expose_provenance())?;
        Ok(registers)
    }

    /// Ends it.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn kill(&self) -> io::Result<Ended> {
        self.0.kill()
    }

    fn request(&self, what: libc::c_uint, address: usize, data: usize) -> io::Result<()> {
        let place = ptr::with_exposed_provenance_mut::<libc::c_void>(address);
        let data = ptr::with_exposed_provenance_mut::<libc::c_void>(data);
        // SAFETY: the only request that writes to this process is GETREGS, whose structure is live.
        let failed = unsafe { libc::ptrace(what, self.0.pid(), place, data) };
        if failed == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
