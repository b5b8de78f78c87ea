//! `execve(2)`, with the argument and environment arrays laid out beforehand.

use std::ffi::{CStr, CString, c_char};
use std::ptr;

use rustix::io::Errno;

/// A null-terminated array of pointers to C strings, as execve wants it.
#[derive(Debug)]
pub(crate) struct CStringArray {
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl CStringArray {
    /// Takes the strings and lays out their pointers.
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect();
        Self { strings, pointers }
    }

    /// The strings themselves.
    pub(crate) fn strings(&self) -> &[CString] {
        &self.strings
    }
}

/// Replaces this process's program; returns only with the reason why it could not.
pub(crate) fn execve(path: &CStr, args: &CStringArray, env: &CStringArray) -> Errno {
    // SAFETY: all three are valid, null-terminated and live as long as the call; the arrays own their strings,
    // whose heap buffers do not move.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Errno::from_raw_os_error(errno)
}
