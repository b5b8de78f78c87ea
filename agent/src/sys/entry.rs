//! The program's entry point.
//!
//! std's own start-up polls and reopens descriptors 0 to 2, installs handlers and maps a signal stack. PID 1 needs
//! none of it, each call costs a guest without hardware assistance about 0.4 ms, and without `/dev/null` in the
//! initramfs it would abort when the kernel has no console to give.
#![expect(unsafe_code, reason = "exporting the C entry point")]

use std::ffi::{c_char, c_int};

// SAFETY: the program is built with `no_main`, so this is the only `main`, and its signature is the one that the C
// start-up code calls.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    crate::run();
    0
}
