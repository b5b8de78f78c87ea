//! The system calls that rustix does not offer safely, each in a small safe function of its own.
//!
//! All `unsafe` code of this crate is here.

#![expect(unsafe_code, reason = "raw system calls that rustix has no safe form of")]

mod clone3;
mod close_range;
mod code_pages;
mod dumpable;
mod ebpf;
mod exec;
mod keyring;
mod last_exec;
mod loopback;
mod mount_setattr;
mod namespace_type;
mod pidfd;
mod scheduling;
mod seccomp;
mod signal_queue;
mod signals;
mod stdio;
mod unshare;

pub(crate) use clone3::{CloneRequest, Cloned, clone3};
pub(crate) use close_range::{close_all_except, mark_all_cloexec};
pub use code_pages::give_back as give_back_code;
pub(crate) use dumpable::forbid_inspection;
pub(crate) use ebpf::{EbpfInstruction, replace_device_program};
pub(crate) use exec::CStringArray;
pub(crate) use keyring::join_session_keyring;
pub(crate) use last_exec::image as last_exec_image;
pub(crate) use last_exec::{LastExec, LastStage, parse_failure};
pub(crate) use loopback::bring_up_loopback;
pub(crate) use mount_setattr::{MountAttr, map_ids, mount_setattr};
pub(crate) use namespace_type::namespace_type;
pub(crate) use pidfd::send_signal;
pub(crate) use scheduling::{
    SchedAttr, set_affinity, set_io_priority, set_memory_policy, set_personality, set_scheduler,
};
pub(crate) use seccomp::{BpfInstruction, load_asking_filter, load_filter};
pub(crate) use signal_queue::SignalQueue;
pub(crate) use signals::kill;
pub(crate) use signals::{reset_signals, with_fresh_signals};
pub(crate) use stdio::{exit_now, replace_stdio};
pub(crate) use unshare::{unshare_cgroup, unshare_time};

use rustix::io::Errno;

/// The result of a raw system call: the kernel's answer, or `errno`.
fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result == -1 {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        return Err(Errno::from_raw_os_error(errno));
    }
    Ok(result)
}
