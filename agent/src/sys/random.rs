//! Has the kernel's random generator take a new key (random(4)).
#![expect(unsafe_code, reason = "an ioctl that rustix lacks")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `RNDRESEEDCRNG` of `linux/random.h`: `_IO('R', 7)`.
const RESEED: libc::Ioctl = 0x5207;

/// Whoever draws random numbers from now on gets those of a new key, made from what the generator has collected by now
/// and from the CPU's own source where it has one. `generator` is `/dev/urandom`.
///
/// # Errors
/// `ENODATA` while the generator has never been seeded, `EPERM` without `CAP_SYS_ADMIN`.
pub(crate) fn take_new_key(generator: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open, and this request takes no argument.
    let result = unsafe { libc::ioctl(generator.as_raw_fd(), RESEED) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
