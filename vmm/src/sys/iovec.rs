//! Vectored reads and writes between a descriptor and guest memory, without a buffer in between.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use vm_memory::VolatileSlice;

/// The most slices that one call takes (IOV_MAX); callers with more see a short count.
const MAX_SLICES: usize = 1024;

/// `preadv`: fills `slices` from byte `offset` of `file`. Returns the bytes read; 0 at the end of the file.
///
/// # Errors
///
/// What the system call says, except EINTR, which is tried again.
pub(crate) fn read_at(file: impl AsFd, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
    let offset = offset_of(offset)?;
    call(slices, |vector, count| {
        // SAFETY: `vector` holds `count` entries, each a mapped, writable run of guest memory (see `call`).
        unsafe { libc::preadv(file.as_fd().as_raw_fd(), vector, count, offset) }
    })
}

/// `pwritev`: writes `slices` at byte `offset` of `file`. Returns the bytes written.
///
/// # Errors
///
/// What the system call says, except EINTR, which is tried again.
pub(crate) fn write_at(file: impl AsFd, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
    let offset = offset_of(offset)?;
    call(slices, |vector, count| {
        // SAFETY: `vector` holds `count` entries, each a mapped, readable run of guest memory (see `call`).
        unsafe { libc::pwritev(file.as_fd().as_raw_fd(), vector, count, offset) }
    })
}

/// `readv`: fills `slices` from a stream or one packet. Returns the bytes read; 0 at the end of the stream.
///
/// # Errors
///
/// What the system call says, except EINTR, which is tried again.
pub(crate) fn read(stream: impl AsFd, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
    call(slices, |vector, count| {
        // SAFETY: `vector` holds `count` entries, each a mapped, writable run of guest memory (see `call`).
        unsafe { libc::readv(stream.as_fd().as_raw_fd(), vector, count) }
    })
}

/// `writev`: writes `slices` as one packet. Returns the bytes written.
///
/// # Errors
///
/// What the system call says, except EINTR, which is tried again.
pub(crate) fn write(device: impl AsFd, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
    call(slices, |vector, count| {
        // SAFETY: `vector` holds `count` entries, each a mapped, readable run of guest memory (see `call`).
        unsafe { libc::writev(device.as_fd().as_raw_fd(), vector, count) }
    })
}

/// `sendmsg`: writes `slices` to a socket. A peer that is gone is an error (EPIPE) and not a signal.
///
/// # Errors
///
/// What the system call says, except EINTR, which is tried again.
pub(crate) fn send(socket: impl AsFd, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
    call(slices, |vector, count| {
        let message = libc::msghdr {
            msg_name: ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: vector.cast_mut(),
            msg_iovlen: count.unsigned_abs() as usize,
            msg_control: ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        };
        // SAFETY: the message has neither address nor control data, and its vector holds `count` entries,
        // each a mapped, readable run of guest memory (see `call`).
        unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) }
    })
}

fn offset_of(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Runs `system_call` on the slices as an I/O vector.
///
/// The guards keep the memory mapped for the duration of the call, and the lengths are those of the slices,
/// so every entry is valid. The guest may change the bytes meanwhile; the kernel copies them as it finds them
/// and no Rust reference to them exists. Slices of this crate's memory carry no dirty bitmap (`()`), so there
/// is none to mark.
fn call(
    slices: &[VolatileSlice<'_>],
    system_call: impl Fn(*const libc::iovec, libc::c_int) -> isize,
) -> io::Result<usize> {
    let slices = &slices[..slices.len().min(MAX_SLICES)];
    let guards: Vec<_> = slices.iter().map(VolatileSlice::ptr_guard_mut).collect();
    let vector: Vec<libc::iovec> = guards
        .iter()
        .map(|guard| libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() })
        .collect();
    let count = libc::c_int::try_from(vector.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    loop {
        if let Ok(done) = usize::try_from(system_call(vector.as_ptr(), count)) {
            return Ok(done);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
