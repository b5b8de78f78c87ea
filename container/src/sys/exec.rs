//! The argument and environment arrays of `execve(2)`, laid out beforehand.

use std::ffi::{CString, c_char};
use std::ptr;

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

    /// The array, valid as long as this lives.
    pub(super) fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }

    /// Its elements, the null at the end included.
    pub(super) fn pointers(&self) -> impl Iterator<Item = *const c_char> {
        self.pointers.iter().copied()
    }
}
