//! The `NS_GET_NSTYPE` ioctl: what kind of namespace a descriptor stands for (ioctl_ns(2)).

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::check;

/// linux/nsfs.h: `_IO(0xb7, 3)`.
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;

/// The namespace's `CLONE_NEW…` bit.
///
/// # Errors
/// ENOTTY when it is no namespace.
pub(crate) fn namespace_type(namespace: BorrowedFd<'_>) -> Result<u64, Errno> {
    // SAFETY: takes no argument besides the descriptor; files of other kinds refuse it.
    let kind = check(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_NSTYPE) }.into())?;
    Ok(kind.cast_unsigned())
}
