//! Anonymous memory whose protection changes, and that is gone when it is dropped.

use std::io;
use std::ptr;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// Some pages.
#[derive(Debug)]
pub(crate) struct Mapping {
    at: *mut u8,
    len: usize,
}

/// What may be done with pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing.
    None,
    /// Read.
    Read,
    /// Read and write.
    Write,
    /// Read, write and execute.
    Execute,
}

impl Access {
    fn bits(self) -> i32 {
        match self {
            Self::None => libc::PROT_NONE,
            Self::Read => libc::PROT_READ,
            Self::Write => libc::PROT_READ | libc::PROT_WRITE,
            Self::Execute => libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
        }
    }
}

impl Mapping {
    /// Zeroed pages of this process alone, writable; copied on write after a fork.
    pub(crate) fn private(pages: usize) -> io::Result<Self> {
        Self::new(None, pages, libc::MAP_PRIVATE)
    }

    /// Zeroed pages, writable, that children of a fork share.
    pub(crate) fn shared(pages: usize) -> io::Result<Self> {
        Self::new(None, pages, libc::MAP_SHARED)
    }

    /// Zeroed pages below 2 GiB, writable.
    pub(crate) fn low(pages: usize) -> io::Result<Self> {
        Self::new(None, pages, libc::MAP_PRIVATE | libc::MAP_32BIT)
    }

    /// Zeroed pages, writable, where another mapping was.
    pub(crate) fn private_at(address: usize, pages: usize) -> io::Result<Self> {
        Self::new(Some(address), pages, libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE)
    }

    fn new(address: Option<usize>, pages: usize, flags: i32) -> io::Result<Self> {
        let len = pages * PAGE;
        let hint = address.map_or(ptr::null_mut(), ptr::with_exposed_provenance_mut);
        let flags = flags | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, which never replaces one.
        let at = unsafe { libc::mmap(hint, len, Access::Write.bits(), flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { at: at.cast(), len })
    }

    /// Where it is.
    pub(crate) fn address(&self) -> usize {
        self.at.expose_provenance()
    }

    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Changes what may be done with all of it.
    pub(crate) fn protect(&self, access: Access) -> io::Result<()> {
        // SAFETY: the pages are this mapping's own; no Rust reference points into them.
        done(unsafe { libc::mprotect(self.at.cast(), self.len, access.bits()) })
    }

    /// Gives the contents up: private pages read as zero afterwards.
    pub(crate) fn discard(&self) -> io::Result<()> {
        // SAFETY: the pages are this mapping's own; no Rust reference points into them.
        done(unsafe { libc::madvise(self.at.cast(), self.len, libc::MADV_DONTNEED) })
    }

    /// Moves it somewhere else; the old place is gone.
    pub(crate) fn moved(self) -> io::Result<Self> {
        let target = Self::private(self.len / PAGE)?;
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: both ranges are ours, and `self` is not used again.
        let at = unsafe { libc::mremap(self.at.cast(), self.len, self.len, flags, target.at) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        std::mem::forget(self);
        Ok(target)
    }

    /// The byte at `offset`, read from memory each time. Faults as the protection says.
    pub(crate) fn read(&self, offset: usize) -> u8 {
        // SAFETY: in the mapping; a fault is a signal, which is what callers look for.
        unsafe { self.place(offset).read_volatile() }
    }

    /// Writes the byte at `offset`. Faults as the protection says.
    pub(crate) fn write(&self, offset: usize, value: u8) {
        // SAFETY: in the mapping; a fault is a signal, which is what callers look for.
        unsafe { self.place(offset).write_volatile(value) }
    }

    /// The 64-bit word at `offset`, which must be aligned; other processes may change it.
    pub(crate) fn word(&self, offset: usize) -> &std::sync::atomic::AtomicU64 {
        assert!(offset.is_multiple_of(8), "aligned");
        let place = self.place(offset).cast();
        // SAFETY: aligned and in the mapping, which outlives the reference; atomics may be shared.
        unsafe { std::sync::atomic::AtomicU64::from_ptr(place) }
    }

    fn place(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.len, "in the mapping");
        self.at.wrapping_add(offset)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the pages are this mapping's own, and it is gone.
        unsafe { libc::munmap(self.at.cast(), self.len) };
    }
}

fn done(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
