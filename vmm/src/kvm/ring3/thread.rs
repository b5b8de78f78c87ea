//! The thread that runs ring 3: its signal, which only ends KVM_RUN, and its alarm.
//!
//! The kick signal is blocked in the thread and unblocked by KVM, atomically, while KVM_RUN lasts. So a kick or an
//! alarm that comes at any other time stays pending and ends the next KVM_RUN at once; none is lost, none interrupts
//! anything else that the thread does.

use std::io;

use kvm_ioctls::VcpuFd;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;
use vmm_sys_util::signal::{block_signal, get_blocked_signals};

use super::super::{KvmError, kick};

/// Farthest alarm in nanoseconds; whoever waits for longer is woken early once an hour.
const FARTHEST: u64 = 3_600 * NANOSECONDS;
const NANOSECONDS: u64 = 1_000_000_000;

/// `struct kvm_signal_mask` with a kernel's signal set.
#[repr(C)]
struct SignalMask {
    len: u32,
    set: [u8; 8],
}

ioctl_iow_nr!(KVM_SET_SIGNAL_MASK, kvm_bindings::KVMIO, 0x8b, kvm_bindings::kvm_signal_mask);

/// The signal and the alarm of one thread.
#[derive(Debug)]
pub(super) struct RunningThread {
    alarm: libc::c_int,
    /// TSC value that the alarm is set to.
    armed: Option<u64>,
    tsc_khz: u64,
}

/// What was pending when KVM_RUN ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pending {
    /// Another thread signalled.
    pub(super) kicked: bool,
}

impl RunningThread {
    /// Makes the calling thread the one that runs `vcpu`. Its kick signal stays blocked from now on.
    ///
    /// # Errors
    /// The host gives no timer, or KVM takes no signal mask.
    pub(super) fn adopt(vcpu: &VcpuFd, tsc_khz: u32) -> Result<Self, KvmError> {
        let failed = |error: vmm_sys_util::signal::Error| {
            KvmError::call("block a signal")(io::Error::other(format!("{error:?}")))
        };
        let blocked = get_blocked_signals().map_err(failed)?;
        if !blocked.contains(&kick::signal()) {
            block_signal(kick::signal()).map_err(failed)?;
        }
        let others = blocked.iter().filter(|signal| **signal != kick::signal());
        let set = others.fold(0u64, |set, signal| set | 1 << (signal - 1));
        let mask = SignalMask { len: 8, set: set.to_le_bytes() };
        // SAFETY: KVM reads `len` and as many bytes behind it, which is all of `mask`.
        let result = unsafe { ioctl_with_ref(vcpu, KVM_SET_SIGNAL_MASK(), &mask) };
        if result != 0 {
            return Err(KvmError::call("take a signal mask")(io::Error::last_os_error()));
        }
        let alarm = create_alarm().map_err(KvmError::call("create the vCPU thread's timer"))?;
        Ok(Self { alarm, armed: None, tsc_khz: tsc_khz.max(1).into() })
    }

    /// Sees to it that KVM_RUN ends at `until` (a TSC value), or before. An alarm that is set for earlier is left: it
    /// costs less to set it anew when it strikes, which a program that runs that long does not notice.
    ///
    /// # Errors
    /// The host refused.
    pub(super) fn set_alarm(&mut self, until: u64, now: u64) -> Result<(), KvmError> {
        if self.armed.is_some_and(|armed| armed <= until && armed > now) {
            return Ok(());
        }
        let ticks = u128::from(until.saturating_sub(now));
        let wait = u64::try_from(ticks * 1_000_000 / u128::from(self.tsc_khz)).unwrap_or(FARTHEST);
        // Zero would disarm it.
        let wait = wait.clamp(1, FARTHEST);
        let part = |value: u64| libc::c_long::try_from(value).unwrap_or(libc::c_long::MAX);
        let time = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec { tv_sec: part(wait / NANOSECONDS), tv_nsec: part(wait % NANOSECONDS) },
        };
        let no_old_time = std::ptr::null_mut::<libc::itimerspec>();
        // SAFETY: the timer is ours, `time` is read, and nothing is written.
        let result =
            unsafe { libc::syscall(libc::SYS_timer_settime, self.alarm, 0, &raw const time, no_old_time) };
        if result != 0 {
            return Err(KvmError::call("set the vCPU thread's timer")(io::Error::last_os_error()));
        }
        self.armed = Some(until);
        Ok(())
    }

    /// Takes the signals that are pending: until then every KVM_RUN ends at once.
    pub(super) fn take_pending(&mut self) -> Pending {
        let mut pending = Pending::default();
        let Ok(set) = vmm_sys_util::signal::create_sigset(&[kick::signal()]) else { return pending };
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::uninit();
            // SAFETY: reads `set` and `at_once`, writes `info`.
            let signal = unsafe { libc::sigtimedwait(&raw const set, info.as_mut_ptr(), &raw const at_once) };
            if signal < 0 {
                return pending;
            }
            // SAFETY: the call succeeded, so it has written `info`.
            let info = unsafe { info.assume_init() };
            match info.si_code {
                libc::SI_TIMER => self.armed = None,
                _ => pending.kicked = true,
            }
        }
    }
}

impl Drop for RunningThread {
    fn drop(&mut self) {
        // SAFETY: the timer is ours and not used after this.
        unsafe { libc::syscall(libc::SYS_timer_delete, self.alarm) };
    }
}

/// A timer that sends the kick signal to the calling thread.
fn create_alarm() -> io::Result<libc::c_int> {
    // SAFETY: all zeros is a valid value of this structure of integers and pointers.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_signo = kick::signal();
    event.sigev_notify_thread_id = rustix::thread::gettid().as_raw_nonzero().get();
    let mut alarm: libc::c_int = 0;
    // SAFETY: reads `event` and writes `alarm`, which is the kernel's type of a timer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_timer_create,
            libc::CLOCK_MONOTONIC,
            std::ptr::from_mut(&mut event),
            std::ptr::from_mut(&mut alarm),
        )
    };
    if result == 0 { Ok(alarm) } else { Err(io::Error::last_os_error()) }
}
