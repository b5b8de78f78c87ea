//! The piece of the VMM's address space that guest RAM is mapped in: one piece without the gap, so that the software
//! engine finds any byte by one addition.
//!
//! The regions of [`super::GuestMemory`] lie in it and keep it: [`Kept`] takes the place of their bitmap of dirty pages,
//! which nobody needs.
#![expect(unsafe_code, reason = "maps memory at places of our choice, for regions that do not own it")]

use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use vm_memory::FileOffset;
use vm_memory::bitmap::{Bitmap, NewBitmap, WithBitmapSlice};
use vm_memory::mmap::{MmapRegion, MmapRegionBuilder, MmapRegionError};

/// Mapped memory, until the last region in it is gone.
#[derive(Debug)]
pub(super) struct Mapping {
    base: *mut u8,
    len: usize,
    flags: MapFlags,
}

// SAFETY: the value owns the mapping, which any thread may use and unmap.
unsafe impl Send for Mapping {}
// SAFETY: through a shared reference only the address can be had.
unsafe impl Sync for Mapping {}

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

impl Mapping {
    /// Maps `len` bytes of `file`, from its start.
    pub(super) fn of_file(file: &File, len: usize, flags: MapFlags) -> io::Result<Arc<Self>> {
        // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing of ours.
        let base = unsafe { mmap(std::ptr::null_mut(), len, READ_WRITE, flags, file, 0) }?;
        Ok(Arc::new(Self { base: base.cast(), len, flags }))
    }

    /// Maps `len` bytes of fresh memory that belongs to no file.
    pub(super) fn anonymous(len: usize) -> io::Result<Arc<Self>> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: as above.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), len, READ_WRITE, flags) }?;
        Ok(Arc::new(Self { base: base.cast(), len, flags }))
    }

    /// Makes the mapping a copy-on-write one of `file`, whose bytes must be those that are there now.
    pub(super) fn become_copy_of(&self, file: &File) -> io::Result<()> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY: replaces exactly the pages of this mapping by others of the same length and protection, so that all
        // addresses in it stay valid. Nobody holds references to guest memory, which is accessed by volatile reads.
        unsafe { mmap(self.base.cast(), self.len, READ_WRITE, flags, file, 0) }?;
        Ok(())
    }

    /// A region over `len` bytes from `start`, which lie in the mapping.
    pub(super) fn region(
        self: &Arc<Self>,
        start: usize,
        len: usize,
        file: Option<FileOffset>,
    ) -> Result<MmapRegion<Kept>, MmapRegionError> {
        if start.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(MmapRegionError::InvalidPointer);
        }
        // SAFETY: start is within the mapping, as was just checked.
        let at = unsafe { self.base.add(start) };
        let flags = i32::try_from(self.flags.bits()).unwrap_or_default();
        let builder = MmapRegionBuilder::new_with_bitmap(len, Kept(Some(self.clone())))
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(flags);
        let builder = match file {
            Some(file) => builder.with_file_offset(file),
            None => builder,
        };
        // SAFETY: `len` bytes from there are mapped until the last `Kept` is gone, and the region has one.
        let builder = unsafe { builder.with_raw_mmap_pointer(at) };
        builder.build()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and no region is left in it.
        let _ = unsafe { munmap(self.base.cast(), self.len) };
    }
}

/// Keeps the mapping that a region lies in; as a bitmap, it marks nothing.
#[derive(Debug, Clone, Default)]
pub struct Kept(Option<Arc<Mapping>>);

impl Kept {
    /// The mapping.
    pub(super) fn mapping(&self) -> Option<&Arc<Mapping>> {
        self.0.as_ref()
    }
}

impl WithBitmapSlice<'_> for Kept {
    type S = ();
}

impl Bitmap for Kept {
    fn mark_dirty(&self, _: usize, _: usize) {}

    fn dirty_at(&self, _: usize) -> bool {
        false
    }

    fn slice_at(&self, _: usize) {}
}

impl NewBitmap for Kept {
    fn with_len(_: usize) -> Self {
        Self(None)
    }
}
