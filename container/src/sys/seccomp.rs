//! `seccomp(2)`: installs a classic BPF program as system call filter.

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
    let length = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let fprog =
        libc::sock_fprog { len: length, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    // SAFETY: `fprog` points at `length` instructions laid out as sock_filter (`repr(C)`, same fields), which the
    // kernel copies during the call and does not write to.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const fprog) };
    check(result).map(|_| ())
}
