//! The ioctls of a tap device (`linux/if_tun.h`), which rustix does not have.

use std::ffi::{c_char, c_int, c_uint, c_ulong};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Longest interface name, in bytes.
pub(crate) const MAX_NAME: usize = libc::IFNAMSIZ - 1;

/// TUNSETIFF: makes `tun`, an open `/dev/net/tun`, the tap interface `name`, with a header before each frame
/// (`IFF_TAP | IFF_NO_PI | IFF_VNET_HDR`). Names longer than [`MAX_NAME`] are cut off.
///
/// # Errors
///
/// What the ioctl says.
pub(crate) fn set_interface(tun: impl AsFd, name: &str) -> io::Result<()> {
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    let flags = libc::c_short::try_from(flags).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags },
    };
    for (place, byte) in request.ifr_name[..MAX_NAME].iter_mut().zip(name.bytes()) {
        *place = c_char::from_ne_bytes([byte]);
    }
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which `request` is; it lives until the call returns.
    check(unsafe { libc::ioctl(tun.as_fd().as_raw_fd(), libc::TUNSETIFF, &raw mut request) })
}

/// TUNSETVNETHDRSZ: the header before each frame has `size` bytes.
///
/// # Errors
///
/// What the ioctl says.
pub(crate) fn set_header_size(tap: impl AsFd, size: c_int) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one `int`, which `size` is; it lives until the call returns.
    check(unsafe { libc::ioctl(tap.as_fd().as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const size) })
}

/// TUNSETOFFLOAD: what the reader of the tap takes unfinished, `TUN_F_…`.
///
/// # Errors
///
/// What the ioctl says.
pub(crate) fn set_offload(tap: impl AsFd, flags: c_uint) -> io::Result<()> {
    let flags = c_ulong::from(flags);
    // SAFETY: TUNSETOFFLOAD takes the flags by value and touches no memory of ours.
    check(unsafe { libc::ioctl(tap.as_fd().as_raw_fd(), libc::TUNSETOFFLOAD, flags) })
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
