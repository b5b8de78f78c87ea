//! Guest memory: one memory file named `guest-ram`, mapped shared and filled on demand, split at the gap for
//! memory-mapped I/O; above it the image files of virtio-pmem devices.
//!
//! Nothing is reserved or touched here: a page costs the host something when guest or VMM first use it. The
//! file gives other processes (a vhost-user device) a way to the same pages. RAM that comes from a snapshot is instead a
//! copy-on-write mapping of that snapshot's file.

mod give_back;
pub mod layout;
mod mapping;
mod pmem_image;

pub(crate) use give_back::give_back;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SeekFrom, ftruncate, memfd_create, seek, sendfile};
use rustix::io::Errno;
use rustix::mm::MapFlags;
use serde::{Deserialize, Serialize};
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
};

use crate::virtio::pmem::PmemConfig;
pub use mapping::Kept;
use mapping::{ANONYMOUS, Kind, Mapping};
pub use pmem_image::PmemError;
use pmem_image::PmemImage;

/// `f_type` of hugetlbfs (Linux, include/uapi/linux/magic.h).
const HUGETLBFS_MAGIC: rustix::fs::FsWord = 0x9584_58f6;

/// The guest's memory, as VMM, boot code and devices share it. Clones refer to the same pages.
pub type GuestMemory = GuestMemoryMmap<Kept>;
/// A part of it without gaps.
pub type Region = GuestRegionMmap<Kept>;

/// What guest memory is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backing {
    /// A memory file, which other processes can share.
    #[default]
    File,
    /// Memory of this process alone.
    Anonymous,
    /// A memory file of huge pages of 2 MiB, which the host must have reserved.
    HugePages,
}

/// Why guest memory could not be had.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// No memory file of this size.
    #[error("cannot make a memory file of {mib} MiB for the guest: {source}")]
    File {
        /// Size asked for, in MiB.
        mib: u64,
        /// What the host said.
        source: rustix::io::Errno,
    },
    /// There are too few huge pages.
    #[error(
        "the host has no {mib} MiB of huge pages: {source}; reserve them (sysctl vm.nr_hugepages={}) or do without", mib.div_ceil(2)
    )]
    HugePages {
        /// Size asked for, in MiB.
        mib: u64,
        /// What the host said.
        source: io::Error,
    },
    /// The file could not be mapped.
    #[error("cannot map {mib} MiB of guest memory; ask for less with --memory: {problem}")]
    Map {
        /// Size asked for, in MiB.
        mib: u64,
        /// What failed.
        problem: String,
    },
    /// An image file.
    #[error(transparent)]
    Pmem(#[from] PmemError),
}

/// Maps the RAM of a guest with `bytes` of it, in a memory file.
///
/// # Errors
/// The host has no address space or no descriptors left for it.
pub fn map_guest_ram(bytes: u64) -> Result<GuestMemory, MemoryError> {
    map_memory(bytes, Backing::File, &[])
}

/// Maps the RAM of a guest with `bytes` of it, where `backing` says, and the images of its `pmems`.
///
/// # Errors
/// An image cannot be used; the host has no address space, no descriptors or no huge pages left.
pub fn map_memory(bytes: u64, backing: Backing, pmems: &[PmemConfig]) -> Result<GuestMemory, MemoryError> {
    let mib = bytes / layout::MIB;
    let map_error = |problem: io::Error| MemoryError::Map { mib, problem: problem.to_string() };
    let images = open_images(pmems)?;
    if backing == Backing::Anonymous {
        let mapping = reserve(bytes, &images).map_err(map_error)?;
        return regions(&mapping, bytes, ANONYMOUS, None, &images).map_err(map_error);
    }
    let file_error = |source| MemoryError::File { mib, source };
    let (kind, flags) = match backing {
        // Reserved when mapped: a guest that finds none later would end the VMM.
        Backing::HugePages => (MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB, MapFlags::SHARED),
        _ => (MemfdFlags::empty(), MapFlags::SHARED | MapFlags::NORESERVE),
    };
    let file = memfd_create("guest-ram", MemfdFlags::CLOEXEC | kind).map_err(file_error)?;
    ftruncate(&file, bytes).map_err(file_error)?;
    let file = Arc::new(File::from(file));
    let mapping = reserve(bytes, &images).map_err(map_error)?;
    let placed = size(bytes).and_then(|len| mapping.place(0, (&file, 0, len), flags));
    placed.map_err(|error| match backing {
        Backing::HugePages => MemoryError::HugePages { mib, source: error },
        _ => map_error(error),
    })?;
    regions(&mapping, bytes, flags, Some(&file), &images).map_err(map_error)
}

/// Maps the RAM of a guest with `bytes` of it as a copy of `file`: pages are the file's until somebody writes them. The
/// file must not change or shrink while the mapping lives. The images of its `pmems` are mapped as ever.
///
/// # Errors
/// An image cannot be used, or the host has no address space left.
pub fn map_copy_of(file: &File, bytes: u64, pmems: &[PmemConfig]) -> Result<GuestMemory, MemoryError> {
    let mib = bytes / layout::MIB;
    let map_error = |problem: io::Error| MemoryError::Map { mib, problem: problem.to_string() };
    let images = open_images(pmems)?;
    let mapping = reserve(bytes, &images).map_err(map_error)?;
    place_copy(&mapping, file, bytes).map_err(map_error)?;
    regions(&mapping, bytes, ANONYMOUS, None, &images).map_err(map_error)
}

/// Makes the RAM of `memory`, wherever it was, a copy-on-write mapping of `file`, which holds the same bytes.
///
/// # Errors
/// The host refused; the memory is what it was.
pub(crate) fn become_copy_of(memory: &GuestMemory, file: &File) -> io::Result<()> {
    let mapping = memory.iter().next().and_then(|region| kept(region).mapping().cloned());
    let mapping = mapping.ok_or_else(|| io::Error::other("guest memory is not one piece"))?;
    place_copy(&mapping, file, ram(memory).map(GuestMemoryRegion::len).sum())
}

/// The regions that are RAM.
pub(crate) fn ram(memory: &GuestMemory) -> impl Iterator<Item = &Region> {
    memory.iter().filter(|region| kept(region).kind() == Kind::Ram)
}

/// The regions that are image files, in the order of the configuration.
pub(crate) fn images(memory: &GuestMemory) -> impl Iterator<Item = &Region> {
    memory.iter().filter(|region| kept(region).kind() == Kind::Image)
}

fn kept(region: &Region) -> &Kept {
    std::ops::Deref::deref(region).bitmap()
}

fn open_images(pmems: &[PmemConfig]) -> Result<Vec<PmemImage>, PmemError> {
    pmems.iter().map(|pmem| PmemImage::open(&pmem.path, pmem.read_only)).collect()
}

fn size(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory.into())
}

/// Room for RAM, and for the images behind it.
fn reserve(bytes: u64, images: &[PmemImage]) -> io::Result<Arc<Mapping>> {
    let ranges = layout::pmem_ranges(bytes, images.iter().map(|image| image.bytes));
    let start = if images.is_empty() { bytes } else { layout::images_offset(bytes) };
    let total = ranges.iter().try_fold(start, |sum, range| sum.checked_add(range.len));
    Mapping::reserve(size(total.ok_or(io::ErrorKind::OutOfMemory)?)?)
}

/// Maps `file` copy-on-write in the place of RAM.
fn place_copy(mapping: &Mapping, file: &File, bytes: u64) -> io::Result<()> {
    if file.metadata()?.len() < bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    mapping.place(0, (file, 0, size(bytes)?), ANONYMOUS)?;
    mapping.set_copy();
    Ok(())
}

/// The regions in `mapping`: RAM as it is mapped already, with `flags` and perhaps from a file, and the images, which are
/// mapped here.
fn regions(
    mapping: &Arc<Mapping>,
    bytes: u64,
    flags: MapFlags,
    file: Option<&Arc<File>>,
    images: &[PmemImage],
) -> io::Result<GuestMemory> {
    let mut regions = Vec::new();
    let mut add = |kind, range: layout::RamRange, at: u64, flags, file| -> io::Result<()> {
        let region = mapping.region(kind, size(at)?, size(range.len)?, flags, file);
        let region = GuestRegionMmap::new(region.map_err(io::Error::other)?, GuestAddress(range.base));
        regions.push(region.ok_or_else(|| io::Error::other("it reaches beyond the address space"))?);
        Ok(())
    };
    let mut at = 0;
    for range in layout::ram_ranges(bytes) {
        add(Kind::Ram, range, at, flags, file.map(|file| FileOffset::from_arc(file.clone(), at)))?;
        at += range.len;
    }
    at = layout::images_offset(bytes);
    let ranges = layout::pmem_ranges(bytes, images.iter().map(|image| image.bytes));
    for (PmemImage { file, bytes, read_only }, range) in images.iter().zip(ranges) {
        let sharing = if *read_only { MapFlags::PRIVATE } else { MapFlags::SHARED };
        let flags = sharing | MapFlags::NORESERVE;
        mapping.place(size(at)?, (file, 0, size(*bytes)?), flags)?;
        add(Kind::Image, range, at, flags, Some(FileOffset::from_arc(file.clone(), 0)))?;
        at += range.len;
    }
    GuestMemoryMmap::from_regions(regions).map_err(io::Error::other)
}

/// Fills `len` bytes of guest memory at `address` from `file`, starting at `file_at`.
///
/// Into a memory file the host copies from page cache to memory file. The VMM maps and faults none of those pages, which takes half the
/// time of reading into the mapping. Holes of the file stay holes of the memory, which must be fresh.
///
/// # Errors
/// The range is not RAM, the file cannot be read or ends before.
pub(crate) fn fill_from_file(
    memory: &GuestMemory,
    address: u64,
    file: &File,
    file_at: u64,
    len: usize,
) -> io::Result<()> {
    let start = GuestAddress(address);
    let region = ram(memory).find(|region| {
        let offset = address.checked_sub(region.start_addr().0);
        offset.and_then(|at| at.checked_add(len as u64)).is_some_and(|end| end <= region.len())
    });
    let region =
        region.ok_or_else(|| io::Error::other(format!("{len:#x} bytes at {address:#x} are not RAM")))?;
    let end = file_at + len as u64;
    if file.metadata()?.len() < end {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let Some(own) = region.file_offset().filter(|own| can_be_written(own.file())) else {
        seek(file, SeekFrom::Start(file_at))?;
        return memory.read_exact_volatile_from(start, &mut &*file, len).map_err(io::Error::other);
    };
    let memory_at = own.start() + (address - region.start_addr().0);
    let mut at = file_at;
    while let Some(data) = next_data(file, at, end)? {
        seek(own.file(), SeekFrom::Start(memory_at + (data.start - file_at)))?;
        copy(own.file(), file, &data)?;
        at = data.end;
    }
    Ok(())
}

/// Whether a memory file takes writes besides mappings: one of huge pages does not.
fn can_be_written(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|fs| fs.f_type != HUGETLBFS_MAGIC)
}

/// The next run of data in a range of a file, if there is any.
pub(crate) fn next_data(file: &File, start: u64, end: u64) -> io::Result<Option<Range<u64>>> {
    if start >= end {
        return Ok(None);
    }
    let data = match seek(file, SeekFrom::Data(start)) {
        Ok(data) => data,
        // Nothing but a hole up to the end of the file.
        Err(Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let hole = seek(file, SeekFrom::Hole(data))?;
    Ok((data < end).then(|| data..hole.min(end)))
}

/// Copies a range of a file to where the other file is positioned.
fn copy(to: &File, from: &File, range: &Range<u64>) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        if sendfile(to, from, Some(&mut at), left)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn memory_above_the_gap_is_its_own_part_of_the_file() {
        let memory = map_guest_ram(3073 * layout::MIB).unwrap();
        memory.write_obj(0x11u8, GuestAddress(0)).unwrap();
        memory.write_obj(0x22u8, GuestAddress(layout::MMIO_GAP_END)).unwrap();
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0)).unwrap(), 0x11);
        assert!(memory.read_obj::<u8>(GuestAddress(layout::MMIO_GAP)).is_err());
        let starts: Vec<u64> = memory.iter().map(|r| r.file_offset().unwrap().start()).collect();
        assert_eq!(starts, [0, layout::MMIO_GAP]);
    }

    #[test]
    fn images_lie_above_ram_and_are_padded_with_memory_of_their_own() {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(12288).unwrap();
        let pmem = |read_only| PmemConfig { path: image.path().into(), read_only, ..PmemConfig::default() };
        for (read_only, written) in [(false, 1), (true, 0)] {
            for backing in [Backing::File, Backing::Anonymous] {
                let memory = map_memory(255 * layout::MIB, backing, &[pmem(read_only)]).unwrap();
                let [region] = images(&memory).collect::<Vec<_>>()[..] else { panic!("one image") };
                assert_eq!((region.start_addr().0, region.len()), (layout::MMIO_GAP_END, layout::PMEM_UNIT));
                for offset in [0, 12287, 12288, layout::PMEM_UNIT - 1] {
                    let address = GuestAddress(layout::MMIO_GAP_END + offset);
                    assert_eq!(memory.read_obj::<u8>(address).unwrap(), 0);
                    memory.write_obj(1u8, address).unwrap();
                }
                let mut byte = [0];
                image.as_file().read_exact_at(&mut byte, 12287).unwrap();
                assert_eq!(byte[0], written, "read-only: {read_only}");
                image.as_file().write_all_at(&[0; 12288], 0).unwrap();
            }
        }
        let both = map_memory(layout::MIB, Backing::File, &[pmem(true), pmem(true)]).unwrap();
        assert_eq!((ram(&both).count(), images(&both).count()), (1, 2));
        assert!(fill_from_file(&both, layout::MMIO_GAP_END, image.as_file(), 0, 1).is_err(), "not RAM");
        assert_eq!(give_back(&both, layout::MMIO_GAP_END..u64::MAX).unwrap(), 0, "not RAM");
    }

    #[test]
    fn a_file_lands_where_it_should_on_both_sides_of_the_gap() {
        let memory = map_guest_ram(3073 * layout::MIB).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        for address in [0x1001, layout::MMIO_GAP_END + 0xfff] {
            fill_from_file(&memory, address, &file, 2, 5).unwrap();
            let mut bytes = [0; 6];
            memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
            assert_eq!(&bytes, b"23456\0");
        }
    }

    #[test]
    fn a_file_lands_in_memory_without_a_file_too() {
        let memory = map_memory(layout::MIB, Backing::Anonymous, &[]).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        fill_from_file(&memory, 0x1001, &file, 2, 5).unwrap();
        let mut bytes = [0; 6];
        memory.read_slice(&mut bytes, GuestAddress(0x1001)).unwrap();
        assert_eq!(&bytes, b"23456\0");
    }

    #[test]
    fn huge_pages_are_had_or_refused_at_once() {
        match map_memory(4 * layout::MIB, Backing::HugePages, &[]) {
            Ok(memory) => {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(b"0123456789").unwrap();
                fill_from_file(&memory, 0x1001, &file, 2, 5).unwrap();
                assert_eq!(memory.read_obj::<u8>(GuestAddress(0x1001)).unwrap(), b'2');
            }
            Err(error) => assert!(error.to_string().contains("vm.nr_hugepages=2"), "{error}"),
        }
    }

    #[test]
    fn holes_of_a_file_are_zeros_and_take_no_memory() {
        let memory = map_guest_ram(16 * layout::MIB).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(9 * layout::MIB).unwrap();
        file.write_all_at(b"data", 5 * layout::MIB).unwrap();
        fill_from_file(&memory, layout::MIB, &file, 0, usize::try_from(8 * layout::MIB).unwrap()).unwrap();
        let mut bytes = [7; 5];
        memory.read_slice(&mut bytes, GuestAddress(6 * layout::MIB)).unwrap();
        assert_eq!(&bytes, b"data\0");
        let ram = memory.iter().next().unwrap().file_offset().unwrap().file().metadata().unwrap();
        assert!(ram.blocks() * 512 < layout::MIB, "{} blocks", ram.blocks());
    }

    #[test]
    fn a_file_that_ends_early_or_lands_outside_ram_is_an_error() {
        let memory = map_guest_ram(layout::MIB).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let early = fill_from_file(&memory, 0, &file, 0, 11).unwrap_err();
        assert_eq!(early.kind(), io::ErrorKind::UnexpectedEof);
        for address in [layout::MIB - 1, layout::MIB, u64::MAX] {
            assert!(fill_from_file(&memory, address, &file, 0, 10).is_err(), "{address:#x}");
        }
    }
}
