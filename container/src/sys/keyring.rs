//! `keyctl(2)`: a session keyring of the container's own.

use std::ffi::CStr;

use rustix::io::Errno;

use super::check;

/// Joins a new session keyring with this name, so that the keys of whoever started the container stay out.
pub(crate) fn join_session_keyring(name: &CStr) -> Result<(), Errno> {
    // SAFETY: KEYCTL_JOIN_SESSION_KEYRING reads one null-terminated string, which lives as long as the call.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    check(result).map(|_| ())
}
