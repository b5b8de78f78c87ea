//! `seccomp(2)`: installs a classic BPF program as system call filter.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use super::check;

/// One instruction of classic BPF: `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BpfInstruction {
    pub(crate) code: u16,
    pub(crate) jump_true: u8,
    pub(crate) jump_false: u8,
    pub(crate) k: u32,
}

/// Installs `program` for this process, with `SECCOMP_FILTER_FLAG_…` bits.
///
/// # Errors
/// EACCES without no_new_privs and CAP_SYS_ADMIN, EINVAL for a program the kernel's checker refuses or one that is
/// too long.
pub(crate) fn load_filter(program: &[BpfInstruction], flags: u64) -> Result<(), Errno> {
    load(program, flags).map(|_| ())
}

/// As [`load_filter`], and returns the descriptor (close-on-exec) by which calls are asked about.
pub(crate) fn load_asking_filter(program: &[BpfInstruction], flags: u64) -> Result<OwnedFd, Errno> {
    let number = load(program, flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    let number = RawFd::try_from(number).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn load(program: &[BpfInstruction], flags: u64) -> Result<libc::c_long, Errno> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let fprog =
        libc::sock_fprog { len: length, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    // SAFETY: `fprog` points at `length` instructions laid out as sock_filter (`repr(C)`, same fields), which the
    // kernel copies during the call and does not write to.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const fprog) };
    check(result)
}
