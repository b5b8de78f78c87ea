//! Code that is made at run time.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr;

use super::mapping::{Access, Mapping, PAGE};

/// A page of code that can be rewritten: at the address where it runs, or by another address.
#[derive(Debug)]
pub(crate) struct Code {
    run_at: *mut u8,
    write_at: *mut u8,
    /// The page, where it is one mapping.
    _mapping: Option<Mapping>,
}

impl Code {
    /// A page that is written where it runs.
    ///
    /// # Errors
    /// No memory is left.
    pub(crate) fn in_place() -> io::Result<Self> {
        let mapping = Mapping::private(1)?;
        mapping.protect(Access::Execute)?;
        let at = ptr::with_exposed_provenance_mut(mapping.address());
        Ok(Self { run_at: at, write_at: at, _mapping: Some(mapping) })
    }

    /// A page that is mapped twice, to write and to run.
    ///
    /// # Errors
    /// No memory is left.
    pub(crate) fn mapped_twice() -> io::Result<Self> {
        // SAFETY: takes a C string.
        let fd = unsafe { libc::memfd_create(c"code".as_ptr(), 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else has.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(PAGE as u64)?;
        let map = |access| {
            // SAFETY: a new mapping, which replaces none.
            let at =
                unsafe { libc::mmap(ptr::null_mut(), PAGE, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
            if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(at.cast()) }
        };
        let write_at = map(libc::PROT_READ | libc::PROT_WRITE)?;
        Ok(Self { run_at: map(libc::PROT_READ | libc::PROT_EXEC)?, write_at, _mapping: None })
    }

    /// Where it runs.
    pub(crate) fn address(&self) -> usize {
        self.run_at.expose_provenance()
    }

    /// Writes machine code at `offset`.
    pub(crate) fn write(&self, offset: usize, code: &[u8]) {
        assert!(offset + code.len() <= PAGE, "in the page");
        for (byte, place) in code.iter().zip(offset..) {
            // SAFETY: in the page, to which there is no reference.
            unsafe { self.write_at.wrapping_add(place).write_volatile(*byte) };
        }
    }

    /// Calls the code at `offset`, which must be a function that keeps to the System V ABI.
    pub(crate) fn call(&self, offset: usize, argument: u64) -> u64 {
        assert!(offset < PAGE, "in the page");
        let at = self.run_at.wrapping_add(offset);
        // SAFETY: callers have written such a function there.
        let function: extern "C" fn(u64) -> u64 = unsafe { std::mem::transmute(at) };
        function(argument)
    }
}
