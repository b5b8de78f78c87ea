//! System calls that no safe wrapper offers: vectored I/O on guest memory, taking its pages away, the ioctls of a tap
//! device, descriptors known by number, io_uring, namespaces, and what signals do.
#![expect(
    unsafe_code,
    reason = "raw pointers into guest memory and ioctl numbers are what this module is for"
)]

pub(crate) mod close_range;
pub(crate) mod code_pages;
pub(crate) mod file_ring;
pub(crate) mod heap;
pub(crate) mod inherited;
pub(crate) mod iovec;
pub(crate) mod namespaces;
pub(crate) mod pages;
pub(crate) mod signals;
pub(crate) mod tap;
pub(crate) mod tsc;
pub(crate) mod violation;
