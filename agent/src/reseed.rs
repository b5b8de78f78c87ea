//! Random numbers of its own for a machine that goes on from a snapshot. Every copy has the same state of the kernel's
//! random generator, which takes a new key once a minute; until then all copies would draw the same numbers.
//!
//! Our kernel runs without ACPI and does not hear of the generation id. What it hears is that its vsock connections are
//! gone (`VIRTIO_VSOCK_EVENT_TRANSPORT_RESET`); the agent has one open, whose reset is the sign.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;

use rustix::io::Errno;

use crate::sys::random;

/// The virtio entropy device.
const HOST: &str = "/dev/hwrng";
/// The kernel's generator.
const GENERATOR: &str = "/dev/urandom";
/// Bytes asked of the host. Up to 128 of them may be as old as the snapshot: the driver and the layer above it each keep
/// 64 bytes in store (kernel: drivers/char/hw_random, `virtio-rng.c` and `core.c`).
const BYTES: usize = 256;

/// Whether this is how a connection ends in a machine that goes on from a snapshot. Whoever waits in a call hears
/// `ECONNRESET`; later calls find the socket unconnected. The other side's end of a connection is no error (kernel:
/// net/vmw_vsock/virtio_transport.c, `virtio_vsock_reset_sock`; af_vsock.c, `vsock_connectible_recvmsg`).
pub(crate) fn is_sign_of_a_copy(error: Errno) -> bool {
    matches!(error, Errno::CONNRESET | Errno::NOTCONN)
}

/// Gives the kernel's generator bytes of the host's and has it take a new key. Returns how many bytes: none without an
/// entropy device, where the CPU's own source, which the kernel mixes into each new key, has to do.
///
/// # Errors
/// The generator cannot be opened or refuses.
pub(crate) fn reseed() -> io::Result<usize> {
    let mut generator = OpenOptions::new().read(true).write(true).open(GENERATOR)?;
    let mut bytes = [0; BYTES];
    let got = from_host(&mut bytes).unwrap_or(0);
    generator.write_all(&bytes[..got])?;
    random::take_new_key(&generator)?;
    Ok(got)
}

/// Fills `bytes` from the entropy device.
fn from_host(bytes: &mut [u8]) -> io::Result<usize> {
    // An app may have put something else in its place; a pipe would never answer.
    if !std::fs::metadata(HOST)?.file_type().is_char_device() {
        return Err(Errno::NODEV.into());
    }
    File::open(HOST)?.read_exact(bytes)?;
    Ok(bytes.len())
}
