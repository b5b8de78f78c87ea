//! Connects to the host over vsock (vsock(7)); rustix has no address type for it.
#![expect(unsafe_code, reason = "connect(2) with an address type that rustix lacks")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// `AF_VSOCK` in the width of an address.
#[expect(clippy::cast_possible_truncation, reason = "the constant is 40")]
const FAMILY: libc::sa_family_t = libc::AF_VSOCK as libc::sa_family_t;
/// Bytes of an address.
#[expect(clippy::cast_possible_truncation, reason = "an address has 16 bytes")]
const LENGTH: libc::socklen_t = size_of::<libc::sockaddr_vm>() as libc::socklen_t;

/// A connected stream to `port` of context `cid`.
///
/// # Errors
/// `EAFNOSUPPORT` when the kernel has no vsock, `ENODEV` when the machine has no vsock device, `ECONNRESET` when
/// nobody listens.
pub(crate) fn connect(cid: u32, port: u32) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::VSOCK, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let address = libc::sockaddr_vm {
        svm_family: FAMILY,
        svm_reserved1: 0,
        svm_port: port,
        svm_cid: cid,
        svm_zero: [0; 4],
    };
    // SAFETY: the descriptor is open, and pointer and length describe `address`, which outlives the call.
    let result = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), LENGTH) };
    if result == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}
