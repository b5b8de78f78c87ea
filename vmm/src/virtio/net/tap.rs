//! The host's side of a network card: a tap device.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use vm_memory::VolatileSlice;

use crate::sys::{inherited, iovec, tap};
use crate::virtio::net::config::TapSource;
use crate::virtio::net::offloads;

/// Bytes of the header before each frame (`virtio_net_hdr_v1`).
pub const HEADER_SIZE: usize = 12;

/// How long a machine that has just ended may take to let its tap go.
const PATIENCE: Duration = Duration::from_millis(500);

/// Makes `file` the tap, waiting for one that a machine before is about to let go.
fn attach(file: &File, name: &str) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match tap::set_interface(file, name) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

/// Where frames come from and go to, each after a header of [`HEADER_SIZE`] bytes. One call, one frame; never
/// blocks.
pub trait FrameIo: Send {
    /// The descriptor to watch for frames.
    fn fd(&self) -> RawFd;

    /// Receives a frame into `slices`. A frame that does not fit is cut off.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none.
    fn receive(&self, slices: &[VolatileSlice<'_>]) -> io::Result<usize>;

    /// Sends a frame.
    ///
    /// # Errors
    ///
    /// The frame is malformed or cannot be taken now.
    fn send(&self, slices: &[VolatileSlice<'_>]) -> io::Result<usize>;

    /// The feature bits of the offloads that the host has.
    fn offloads(&self) -> u64;

    /// The guest takes frames as unfinished as its `features` say.
    ///
    /// # Errors
    ///
    /// The host cannot do that.
    fn set_offloads(&self, features: u64) -> io::Result<()>;
}

/// A tap device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// Not a name for an interface.
    #[error("{0:?} is no interface name; use 1 to 15 characters without '/' and blanks")]
    Name(String),
    /// `/dev/net/tun` is not there or not for us.
    #[error("cannot open /dev/net/tun: {0}; load the tun module (`modprobe tun`) and run with access to it")]
    Open(io::Error),
    /// The interface is busy, or creating one is not allowed.
    #[error(
        "cannot attach to tap {name}: {source}; it must not be in use, and attaching takes CAP_NET_ADMIN"
    )]
    Attach {
        /// The interface.
        name: String,
        /// The ioctl's reason.
        source: io::Error,
    },
    /// There is nothing open under this number.
    #[error("descriptor {number} was to be a tap: {source}; whoever starts the machine must pass it on open")]
    Inherited {
        /// The descriptor.
        number: RawFd,
        /// The reason.
        source: io::Error,
    },
    /// The descriptor is no tap with a header, or the kernel is very old.
    #[error(
        "cannot set up a tap ({what}): {source}; it must be opened with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR"
    )]
    SetUp {
        /// What failed.
        what: &'static str,
        /// The reason.
        source: io::Error,
    },
}

/// An attached tap device.
#[derive(Debug)]
pub struct Tap {
    file: File,
    /// The host's kernel knows UDP segments.
    udp_segments: bool,
}

impl Tap {
    /// Opens what the configuration of a card names.
    ///
    /// # Errors
    ///
    /// [`TapError`] says what to do.
    pub fn open(source: &TapSource) -> Result<Self, TapError> {
        match source {
            TapSource::Name(name) => Self::named(name),
            TapSource::Fd(number) => Self::inherited(*number),
        }
    }

    /// Attaches to the tap interface `name` in the current network namespace, creating it if it is not there.
    ///
    /// # Errors
    ///
    /// [`TapError`] says what to do.
    pub fn named(name: &str) -> Result<Self, TapError> {
        let printable = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        if name.is_empty() || name.len() > tap::MAX_NAME || !printable {
            return Err(TapError::Name(name.to_owned()));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .map_err(TapError::Open)?;
        attach(&file, name).map_err(|source| TapError::Attach { name: name.to_owned(), source })?;
        Self::from_file(file)
    }

    /// Takes the tap that this process was given as the descriptor `number`, which stays open.
    ///
    /// # Errors
    ///
    /// There is no such descriptor, or it is no tap, see [`Self::from_file`].
    pub fn inherited(number: RawFd) -> Result<Self, TapError> {
        let fd = inherited::duplicate(number).map_err(|source| TapError::Inherited { number, source })?;
        Self::from_file(fd.into())
    }

    /// Takes a tap that its owner has opened with `IFF_TAP | IFF_NO_PI | IFF_VNET_HDR`.
    ///
    /// # Errors
    ///
    /// It is something else.
    pub fn from_file(file: File) -> Result<Self, TapError> {
        let set_up = |what| move |source| TapError::SetUp { what, source };
        let flags = rustix::fs::fcntl_getfl(&file).map_err(|e| set_up("flags")(e.into()))?;
        rustix::fs::fcntl_setfl(&file, flags | OFlags::NONBLOCK)
            .map_err(|e| set_up("non-blocking")(e.into()))?;
        // The size is a small constant.
        let size = i32::try_from(HEADER_SIZE).unwrap_or_default();
        tap::set_header_size(&file, size).map_err(set_up("header size"))?;
        let udp_segments = tap::set_offload(&file, offloads::TAP_UDP).is_ok();
        tap::set_offload(&file, 0).map_err(set_up("offloads"))?;
        Ok(Self { file, udp_segments })
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl FrameIo for Tap {
    fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    fn receive(&self, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
        iovec::read(&self.file, slices)
    }

    fn send(&self, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
        iovec::write(&self.file, slices)
    }

    fn offloads(&self) -> u64 {
        if self.udp_segments { offloads::BASIC | offloads::UDP } else { offloads::BASIC }
    }

    fn set_offloads(&self, features: u64) -> io::Result<()> {
        tap::set_offload(&self.file, offloads::tap_words(features))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_names_that_no_interface_has() {
        for name in ["", "sixteen-letters!", "a/b", "a b", "tap\u{e9}"] {
            assert!(matches!(Tap::named(name), Err(TapError::Name(bad)) if bad == name), "{name:?}");
        }
    }

    #[test]
    fn refuses_a_descriptor_that_is_no_tap() {
        let error = Tap::from_file(tempfile::tempfile().unwrap()).unwrap_err();
        assert!(matches!(error, TapError::SetUp { what: "header size", .. }), "{error}");
    }
}
