//! System calls that no safe wrapper offers: vectored I/O on guest memory, and the ioctls of a tap device.
#![expect(
    unsafe_code,
    reason = "raw pointers into guest memory and ioctl numbers are what this module is for"
)]

pub(crate) mod iovec;
pub(crate) mod tap;
pub(crate) mod tsc;
