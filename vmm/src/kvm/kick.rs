//! Gets a vCPU out of the guest from another thread.
//!
//! Two things together leave no gap: `immediate_exit` in the page shared with KVM turns the next entry into an exit,
//! and a signal ends an entry that has already happened. The signal's handler does nothing. There is at most one
//! signal per exit: a vCPU that has been kicked already is not signalled again.

use std::io;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};
use std::time::Duration;

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use super::{KvmError, machine};
use crate::cpu::Kick;

const PAGE: usize = 4096;
/// `CPUCLOCK_PERTHREAD_MASK` and `CPUCLOCK_SCHED`.
const CLOCK_OF_THREAD: i32 = 4;
const CLOCK_SCHED: i32 = 2;

/// The signal that ends an entry.
pub(super) fn signal() -> libc::c_int {
    SIGRTMIN()
}

extern "C" fn ignore(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// The handle by which other threads reach one vCPU. Holds its own mapping of the page shared with KVM.
#[derive(Debug)]
pub(super) struct Kicker {
    run: *mut kvm_run,
    /// Thread that runs the vCPU; 0 as long as none does.
    thread: AtomicI32,
}

// SAFETY: the mapping belongs to this value until it is dropped, and is only accessed atomically.
unsafe impl Send for Kicker {}
// SAFETY: as above; every access through a shared reference is atomic.
unsafe impl Sync for Kicker {}

impl Kicker {
    /// A handle for `vcpu`; makes the signal harmless for this process.
    ///
    /// # Errors
    /// The signal's handler or the shared page cannot be had.
    pub(super) fn new(vcpu: &VcpuFd) -> Result<Self, KvmError> {
        register_signal_handler(signal(), ignore)
            .map_err(KvmError::call("take a signal for vCPU threads"))?;
        let fd = machine::borrow_fd(vcpu);
        // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing of ours.
        let page = unsafe {
            mmap(std::ptr::null_mut(), PAGE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, fd, 0)
        };
        let page = page.map_err(KvmError::call("map the vCPU's page"))?;
        Ok(Self { run: page.cast(), thread: AtomicI32::new(0) })
    }

    /// Names the calling thread as the one that runs the vCPU.
    pub(super) fn adopt_thread(&self) {
        self.thread.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::SeqCst);
    }

    /// Lets the vCPU enter the guest again. Whether it had been kicked, or asked to exit.
    pub(super) fn settle(&self) -> bool {
        self.immediate_exit().swap(0, Ordering::SeqCst) != 0
    }

    /// Turns the next entry, by the calling thread, into an exit that only completes what the last one has begun.
    pub(super) fn exit_at_once(&self) {
        self.immediate_exit().store(1, Ordering::SeqCst);
    }

    fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: `run` points to a mapped page of the size of `kvm_run` at least, so the field is in bounds.
        let field = unsafe { &raw mut (*self.run).immediate_exit };
        // SAFETY: valid and aligned for as long as the mapping, that is `self`; both sides access it as one byte.
        unsafe { AtomicU8::from_ptr(field) }
    }
}

const _: () = assert!(std::mem::offset_of!(kvm_run, immediate_exit) < PAGE);

impl Kick for Kicker {
    fn cpu_time(&self) -> Option<Duration> {
        let thread = self.thread.load(Ordering::SeqCst);
        if thread == 0 {
            return None;
        }
        // The clock of another thread's CPU time: MAKE_THREAD_CPUCLOCK in the kernel's posix-timers_types.h.
        let clock = !thread << 3 | CLOCK_OF_THREAD | CLOCK_SCHED;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: writes to `time` only; a clock of a thread that is gone is an error.
        let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
        let seconds = u64::try_from(time.tv_sec).ok()?;
        (result == 0).then(|| Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default()))
    }

    fn kick(&self) -> io::Result<()> {
        let kicked = self.immediate_exit().swap(1, Ordering::SeqCst) != 0;
        let thread = self.thread.load(Ordering::SeqCst);
        if kicked || thread == 0 {
            return Ok(());
        }
        let process = rustix::process::getpid().as_raw_nonzero().get();
        // SAFETY: tgkill takes three integers and touches no memory; the handler of the signal does nothing, so that
        // even a thread that has taken over the number is not harmed.
        let result = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal()) };
        match result {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                // The thread has ended: nothing left to kick.
                error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
                error => Err(error),
            },
        }
    }
}

impl Drop for Kicker {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` with this length, and no reference to it is left.
        let _ = unsafe { munmap(self.run.cast(), PAGE) };
    }
}
