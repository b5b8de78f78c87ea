//! Stream sockets to and from the host (vsock(7)), which std and rustix have no addresses for.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The host's CID.
const HOST: u32 = libc::VMADDR_CID_HOST;

/// A socket that takes connections from the host.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

/// A stream to `port` of the host.
///
/// # Errors
/// Nobody listens there.
pub(crate) fn connect(port: u32) -> io::Result<File> {
    let socket = socket()?;
    let (address, length) = address(HOST, port);
    // SAFETY: pointer and length describe `address`, which outlives the call.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(socket.into())
}

/// Listens at `port` with room for `backlog` that wait.
///
/// # Errors
/// The port is taken.
pub(crate) fn listen(port: u32, backlog: i32) -> io::Result<Listener> {
    let socket = socket()?;
    let (address, length) = address(libc::VMADDR_CID_ANY, port);
    // SAFETY: pointer and length describe `address`, which outlives the call.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    // SAFETY: touches no memory.
    check(unsafe { libc::listen(socket.as_raw_fd(), backlog) })?;
    Ok(Listener(socket))
}

impl Listener {
    /// The next stream.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub(crate) fn accept(&self) -> io::Result<File> {
        // SAFETY: without a place for the peer's address, no memory is touched.
        let fd = unsafe { libc::accept(self.0.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut()) };
        check(fd)?;
        // SAFETY: the kernel has just made it, and nobody else knows of it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
    }
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: touches no memory.
    let fd = unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0) };
    check(fd)?;
    // SAFETY: the kernel has just made it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An address and its length.
#[expect(clippy::cast_possible_truncation, reason = "the family is 40 and an address has 16 bytes")]
fn address(cid: u32, port: u32) -> (libc::sockaddr_vm, libc::socklen_t) {
    let address = libc::sockaddr_vm {
        svm_family: libc::AF_VSOCK as libc::sa_family_t,
        svm_reserved1: 0,
        svm_port: port,
        svm_cid: cid,
        svm_zero: [0; 4],
    };
    (address, size_of::<libc::sockaddr_vm>() as libc::socklen_t)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
