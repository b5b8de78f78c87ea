//! Signals: sending any of them, and dispositions and mask as a fresh process expects them.

use rustix::io::Errno;
use rustix::process::Pid;
use std::mem;
use std::ops::RangeInclusive;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use super::check;

/// All signals that Linux has.
const SIGNALS: RangeInclusive<usize> = 1..=64;

/// Sets every signal to its default action and blocks none.
///
/// An ignored signal stays ignored across exec (Rust's runtime ignores SIGPIPE), and so does the mask.
pub(crate) fn reset_signals() {
    // The kernel's own struct sigaction is at most four words: handler, flags, restorer, mask.
    let default = [0usize; 4];
    let mask_bytes = SIGNALS.end() / 8;
    for signal in SIGNALS {
        // SAFETY: `default` is as large as the kernel reads, all zero is SIG_DFL without flags, and no old action
        // is asked for. Not glibc's sigaction, which refuses the two signals that it keeps to itself. The call
        // fails for SIGKILL and SIGSTOP, which are always at their default.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<libc::c_void>(),
                mask_bytes,
            );
        }
    }
    // SAFETY: a sigset_t is a plain array of words.
    let mut none: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: `none` is a valid sigset_t to write to.
    unsafe { libc::sigemptyset(&raw mut none) };
    // SAFETY: `none` is a valid, initialised set and no old set is asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) };
}

/// Has a command begin with every signal at its default action and none blocked, whatever holds for this process.
pub(crate) fn with_fresh_signals(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec there are nothing but system calls, on memory of the stack.
    unsafe {
        command.pre_exec(|| {
            reset_signals();
            Ok(())
        })
    }
}

/// `kill(2)` for any signal, real-time ones included.
pub(crate) fn kill(pid: Pid, signal: i32) -> Result<(), Errno> {
    // SAFETY: takes plain numbers, and checks them.
    check(unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) }.into()).map(|_| ())
}
