//! A wire without an end: frames come from nowhere and go nowhere.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use vm_memory::{Bytes, VolatileSlice};
use vmm_sys_util::eventfd::EventFd;

use crate::virtio::net::FrameIo;

/// The wire; its descriptor is never ready.
pub(super) struct Wire(pub(super) EventFd);

impl FrameIo for Wire {
    fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// A frame of 64 bytes each time, as far as they fit.
    fn receive(&self, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
        let mut left = 64;
        for slice in slices {
            let part = left.min(slice.len());
            slice.write_slice(&[0x5a; 64][..part], 0).map_err(io::Error::other)?;
            left -= part;
        }
        Ok(64 - left)
    }

    fn send(&self, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
        let mut bytes = [0; 4096];
        for slice in slices {
            let part = slice.len().min(bytes.len());
            slice.read_slice(&mut bytes[..part], 0).map_err(io::Error::other)?;
        }
        Ok(slices.iter().map(VolatileSlice::len).sum())
    }

    fn offloads(&self) -> u64 {
        u64::MAX
    }

    fn set_offloads(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}
