//! The piece of the VMM's address space that guest memory is mapped in: one piece without gaps, so that the software
//! engine finds any byte by one addition. All of it is there from the start, as memory of this process; parts of files
//! take its place.
//!
//! The regions of [`super::GuestMemory`] lie in it and keep it: [`Kept`] takes the place of their bitmap of dirty pages,
//! which nobody needs.
#![expect(unsafe_code, reason = "maps memory at places of our choice, for regions that do not own it")]

use std::fs::File;
use std::io;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mmap_anonymous, mprotect, munmap};
use vm_memory::FileOffset;
use vm_memory::bitmap::{Bitmap, NewBitmap, WithBitmapSlice};
use vm_memory::mmap::{MmapRegion, MmapRegionBuilder, MmapRegionError};

/// The piece starts at a multiple of this, so that huge pages of guest and host can coincide.
const ALIGNMENT: usize = 2 << 20;
const PAGE: usize = 4096;

/// Mapped memory, until the last region in it is gone. Before and behind it nothing can be reached.
#[derive(Debug)]
pub(super) struct Mapping {
    /// What the kernel gave, with room to align in.
    reserved: (*mut u8, usize),
    base: *mut u8,
    len: usize,
    /// RAM is a copy-on-write mapping of a file.
    is_copy: AtomicBool,
}

// SAFETY: the value owns the mapping, which any thread may use and unmap.
unsafe impl Send for Mapping {}
// SAFETY: through a shared reference only the address can be had.
unsafe impl Sync for Mapping {}

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);
/// Of memory that belongs to no file.
pub(super) const ANONYMOUS: MapFlags = MapFlags::PRIVATE.union(MapFlags::NORESERVE);

/// A part of a file: where it starts, and how long it is, in bytes.
pub(super) type Part<'a> = (&'a File, u64, usize);

impl Mapping {
    /// A piece of `len` bytes, rounded up to whole pages, of fresh memory that belongs to no file.
    pub(super) fn reserve(len: usize) -> io::Result<Arc<Self>> {
        let whole = len.checked_next_multiple_of(PAGE);
        let room = whole.and_then(|len| Some((len, len.checked_add(ALIGNMENT + PAGE)?)));
        let (len, room) = room.ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing of ours.
        let start = unsafe { mmap_anonymous(null_mut(), room, ProtFlags::empty(), ANONYMOUS) }?.cast::<u8>();
        let inner = start.wrapping_add(PAGE);
        let base = inner.wrapping_add(inner.align_offset(ALIGNMENT));
        let mapping = Self { reserved: (start, room), base, len, is_copy: AtomicBool::new(false) };
        // SAFETY: the piece lies in the fresh mapping and ends a page before its end at the latest.
        unsafe { mprotect(base.cast(), len, MprotectFlags::READ | MprotectFlags::WRITE) }?;
        Ok(Arc::new(mapping))
    }

    /// Maps a part of a file at `at`, a multiple of the page size, in place of what is there. In the last page, what lies
    /// beyond the end of the file reads as zero.
    pub(super) fn place(&self, at: usize, (file, file_at, len): Part<'_>, flags: MapFlags) -> io::Result<()> {
        let end = len.checked_next_multiple_of(PAGE).and_then(|len| at.checked_add(len));
        if !at.is_multiple_of(PAGE) || end.is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let place = self.base.wrapping_add(at).cast();
        // SAFETY: replaces pages of this mapping, as was just checked, by others of the same protection, so that all
        // addresses in it stay valid. Nobody holds references to guest memory, which is accessed by volatile reads.
        unsafe { mmap(place, len, READ_WRITE, flags | MapFlags::FIXED, file, file_at) }?;
        Ok(())
    }

    /// RAM has been mapped copy-on-write from a file.
    pub(super) fn set_copy(&self) {
        self.is_copy.store(true, Ordering::SeqCst);
    }

    /// Whether RAM is a copy-on-write mapping of a file now.
    pub(super) fn is_copy(&self) -> bool {
        self.is_copy.load(Ordering::SeqCst)
    }

    /// A region over `len` bytes from `start`, which lie in the mapping.
    pub(super) fn region(
        self: &Arc<Self>,
        kind: Kind,
        start: usize,
        len: usize,
        flags: MapFlags,
        file: Option<FileOffset>,
    ) -> Result<MmapRegion<Kept>, MmapRegionError> {
        if start.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(MmapRegionError::InvalidPointer);
        }
        // SAFETY: start is within the mapping, as was just checked.
        let at = unsafe { self.base.add(start) };
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let kept = Kept { kind, mapping: Some(self.clone()) };
        let builder = MmapRegionBuilder::new_with_bitmap(len, kept)
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
        let (start, len) = self.reserved;
        // SAFETY: the mapping was made with this length, and no region is left in it.
        let _ = unsafe { munmap(start.cast(), len) };
    }
}

/// What a region is to the guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// RAM.
    #[default]
    Ram,
    /// An image file, which the guest finds by a virtio-pmem device. It is not the guest's to use as it likes, and not
    /// the VMM's to fill, save or give back.
    Image,
}

/// Keeps the mapping that a region lies in; as a bitmap, it marks nothing.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    kind: Kind,
    mapping: Option<Arc<Mapping>>,
}

impl Kept {
    /// The mapping.
    pub(super) fn mapping(&self) -> Option<&Arc<Mapping>> {
        self.mapping.as_ref()
    }

    /// What the region is.
    pub(super) fn kind(&self) -> Kind {
        self.kind
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
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file() -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 6000]).unwrap();
        Arc::new(file)
    }

    #[test]
    fn nothing_is_placed_or_reached_beyond_the_end() {
        let mapping = Mapping::reserve(PAGE + 1).unwrap();
        assert_eq!((mapping.len, mapping.base.addr() % ALIGNMENT), (2 * PAGE, 0));
        let file = file();
        for (at, len) in [(PAGE, 6000), (2 * PAGE, 1), (1, 1), (0, usize::MAX), (usize::MAX, 1)] {
            assert!(mapping.place(at, (&file, 0, len), ANONYMOUS).is_err(), "{len} at {at}");
        }
        for (at, len) in [(0, 2 * PAGE + 1), (PAGE, usize::MAX)] {
            assert!(mapping.region(Kind::Ram, at, len, ANONYMOUS, None).is_err(), "{len} at {at}");
        }
        mapping.place(0, (&file, 0, 6000), ANONYMOUS).unwrap();
        assert!(Mapping::reserve(usize::MAX).is_err());
    }
}
