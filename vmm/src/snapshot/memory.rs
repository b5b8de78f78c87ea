//! The file of a machine's memory: an image of RAM, in the order of guest addresses and without the gap.
//!
//! What is written depends on where the RAM is ([`Ram`]). RAM of a machine that was booted lies in a memory file, whose
//! holes the guest has never touched. RAM of one that came from a snapshot is a copy-on-write mapping of that snapshot's
//! file; the pages that differ are exactly those that the kernel has copied, which it tells in `/proc/self/pagemap`
//! (Documentation/admin-guide/mm/pagemap.rst): whoever wrote them, guest, device or VMM. So nothing has to keep
//! a log of writes for a diff.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, ftruncate, seek, sendfile};
use vm_memory::{GuestMemoryRegion, MemoryRegionAddress};

use super::SnapshotError;
use crate::memory::{Backing, GuestMemory, next_data, ram as regions_of_ram};

const PAGE: u64 = 4096;
/// Behind the memory of a diff there is one page more, which begins with this: nobody starts from half a memory.
const DIFF_MARK: &[u8] = b"carve: only what has changed";
/// Length of that page in bytes.
pub(crate) const DIFF_MARK_LEN: u64 = PAGE;
/// Entries of the page map that are read at once: those of 16 MiB.
const BATCH: usize = 4096;
/// Bits of an entry: the page is in memory, in swap, and not one of our own (but a file's).
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const FILE: u64 = 1 << 61;

/// Where a machine's RAM is.
#[derive(Debug)]
pub(crate) enum Ram {
    /// In a memory file of its own.
    Shared,
    /// In no file.
    Anonymous,
    /// Copied on write from the memory of a snapshot, which this is.
    Private(File),
}

impl Ram {
    /// The RAM of a machine that is booted.
    pub(crate) fn of(backing: Backing) -> Self {
        match backing {
            Backing::File | Backing::HugePages => Self::Shared,
            Backing::Anonymous => Self::Anonymous,
        }
    }
}

/// Writes all RAM to `path`.
pub(crate) fn write_full(memory: &GuestMemory, ram: &Ram, pages: &File, path: &Path) -> io::Result<()> {
    replace(path, |file| {
        ftruncate(file, size(memory))?;
        match ram {
            Ram::Shared => {
                let Some(source) = regions_of_ram(memory).next().and_then(|region| region.file_offset())
                else {
                    return Err(io::Error::other("guest memory is not in a file"));
                };
                copy_data(source.file(), file, size(memory))
            }
            Ram::Anonymous => write_copied(memory, pages, file),
            Ram::Private(base) => {
                copy_data(base, file, size(memory))?;
                write_copied(memory, pages, file)
            }
        }
    })
}

/// Writes the pages that differ from the snapshot which RAM is mapped from. The rest of the file is a hole.
pub(crate) fn write_diff(memory: &GuestMemory, pages: &File, path: &Path) -> io::Result<()> {
    replace(path, |file| {
        ftruncate(file, size(memory) + DIFF_MARK_LEN)?;
        file.write_all_at(DIFF_MARK, size(memory))?;
        write_copied(memory, pages, file)
    })
}

/// Where the page map of this process is.
pub(crate) const PAGE_MAP: &str = "/proc/self/pagemap";

/// The page map of this process. It can be read wherever the process is locked up later.
pub(crate) fn page_map() -> Result<File, SnapshotError> {
    let path = Path::new(PAGE_MAP);
    File::open(path).map_err(SnapshotError::file("open", path))
}

/// Lays the data of `diff` over `base`.
pub(super) fn rebase(base: &Path, diff: &Path) -> Result<(), SnapshotError> {
    let open = |path: &Path, write| {
        let file = OpenOptions::new().read(true).write(write).open(path);
        file.map_err(SnapshotError::file("open", path))
    };
    let (to, from) = (open(base, true)?, open(diff, false)?);
    let len = |file: &File, path: &Path| match file.metadata() {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) => Err(SnapshotError::file("measure", path)(error)),
    };
    let (found, expected) = (len(&from, diff)?, len(&to, base)?);
    let mut mark = [0; DIFF_MARK.len()];
    let has_mark = from.read_exact_at(&mut mark, expected).is_ok() && mark == DIFF_MARK;
    if found != expected + DIFF_MARK_LEN || !has_mark {
        return Err(SnapshotError::NotADiff { path: diff.to_owned(), base: base.to_owned() });
    }
    let written = copy_data(&from, &to, expected).and_then(|()| to.sync_all());
    written.map_err(SnapshotError::file("write", base))
}

/// Writes a file as a whole or not at all: beside its place first, with `write`, then renamed.
pub(super) fn replace(path: &Path, write: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    // The guest's secrets are in it.
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    let written = write(&file).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// Bytes of RAM.
pub(crate) fn size(memory: &GuestMemory) -> u64 {
    regions_of_ram(memory).map(GuestMemoryRegion::len).sum()
}

/// Copies what is not a hole in the first `len` bytes of a file to the same place in another.
fn copy_data(from: &File, to: &File, len: u64) -> io::Result<()> {
    let mut at = 0;
    while let Some(data) = next_data(from, at, len)? {
        seek(to, SeekFrom::Start(data.start))?;
        at = data.start;
        while at < data.end {
            let left = usize::try_from(data.end - at).unwrap_or(usize::MAX);
            if sendfile(to, from, Some(&mut at), left)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    Ok(())
}

/// Writes the pages of a copy-on-write mapping that have been copied.
fn write_copied(memory: &GuestMemory, pages: &File, to: &File) -> io::Result<()> {
    let mut file_at = 0;
    let mut entries = vec![0; BATCH * 8];
    for region in regions_of_ram(memory) {
        let host = region.get_host_address(MemoryRegionAddress(0)).map_err(io::Error::other)?;
        let first_page = host.expose_provenance() as u64 / PAGE;
        let count = region.len() / PAGE;
        let mut page = 0;
        while page < count {
            let batch = usize::try_from(count - page).unwrap_or(BATCH).min(BATCH);
            let entries = &mut entries[..batch * 8];
            pages.read_exact_at(entries, (first_page + page) * 8)?;
            for run in copied_runs(entries) {
                let start = (page + run.start as u64) * PAGE;
                write_pages(region, start, run.len() as u64 * PAGE, to, file_at + start)?;
            }
            page += batch as u64;
        }
        file_at += region.len();
    }
    Ok(())
}

/// Ranges of pages, by index, that are the process's own.
fn copied_runs(entries: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for (index, entry) in entries.chunks_exact(8).enumerate() {
        let entry = entry.iter().rev().fold(0, |entry, byte| entry << 8 | u64::from(*byte));
        if entry & (PRESENT | SWAPPED) == 0 || entry & FILE != 0 {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.end == index => run.end += 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs
}

fn write_pages(region: &impl GuestMemoryRegion, start: u64, len: u64, to: &File, at: u64) -> io::Result<()> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let slice = region.get_slice(MemoryRegionAddress(start), len).map_err(io::Error::other)?;
    seek(to, SeekFrom::Start(at))?;
    let mut to = to;
    let mut buffer = vec![0; len.min(256 << 10)];
    let mut done = 0;
    while done < len {
        let part = buffer.len().min(len - done);
        let piece = slice.subslice(done, part).map_err(io::Error::other)?;
        piece.copy_to(&mut buffer[..part]);
        to.write_all(&buffer[..part])?;
        done += part;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::memory::{become_copy_of, layout, map_copy_of, map_guest_ram, map_memory};

    const BYTES: u64 = 8 << 20;

    fn read(memory: &GuestMemory, at: u64) -> u8 {
        memory.read_obj(GuestAddress(at)).unwrap()
    }

    #[test]
    fn clones_share_the_file_and_keep_their_changes_to_themselves() {
        let dir = tempfile::tempdir().unwrap();
        let (full, diff) = (dir.path().join("full"), dir.path().join("diff"));
        let pages = page_map().unwrap();
        let memory = map_guest_ram(BYTES).unwrap();
        memory.write_obj(1u8, GuestAddress(0x5000)).unwrap();
        memory.write_obj(2u8, GuestAddress(BYTES - 1)).unwrap();
        write_full(&memory, &Ram::Shared, &pages, &full).unwrap();
        let metadata = std::fs::metadata(&full).unwrap();
        assert_eq!(metadata.len(), BYTES);
        assert!(metadata.blocks() * 512 < BYTES / 8, "{} blocks", metadata.blocks());

        let [one, two] = [(); 2].map(|()| map_copy_of(&File::open(&full).unwrap(), BYTES, &[]).unwrap());
        assert_eq!((read(&one, 0x5000), read(&one, BYTES - 1), read(&one, 0x7000)), (1, 2, 0));
        one.write_obj(7u8, GuestAddress(0x5000)).unwrap();
        one.write_obj(0u8, GuestAddress(BYTES - 1)).unwrap();
        assert_eq!((read(&two, 0x5000), read(&memory, 0x5000)), (1, 1));

        write_diff(&one, &pages, &diff).unwrap();
        assert_eq!(std::fs::metadata(&diff).unwrap().blocks() * 512, 3 * PAGE);
        let again = dir.path().join("again");
        write_full(&one, &Ram::Private(File::open(&full).unwrap()), &pages, &again).unwrap();
        rebase(&full, &diff).unwrap();
        assert_eq!(std::fs::read(&full).unwrap(), std::fs::read(&again).unwrap());
        let three = map_copy_of(&File::open(&full).unwrap(), BYTES, &[]).unwrap();
        assert_eq!((read(&three, 0x5000), read(&three, BYTES - 1)), (7, 0));
    }

    #[test]
    fn memory_of_any_kind_can_become_a_copy_of_its_snapshot() {
        for backing in [Backing::File, Backing::Anonymous] {
            let dir = tempfile::tempdir().unwrap();
            let (full, diff) = (dir.path().join("full"), dir.path().join("diff"));
            let pages = page_map().unwrap();
            let memory = map_memory(BYTES, backing, &[]).unwrap();
            memory.write_obj(1u8, GuestAddress(0x5000)).unwrap();
            memory.write_obj(2u8, GuestAddress(0x9000)).unwrap();
            write_full(&memory, &Ram::of(backing), &pages, &full).unwrap();
            become_copy_of(&memory, &File::open(&full).unwrap()).unwrap();
            assert_eq!((read(&memory, 0x5000), read(&memory, 0x9000)), (1, 2), "{backing:?}");
            memory.write_obj(3u8, GuestAddress(0x9000)).unwrap();
            write_diff(&memory, &pages, &diff).unwrap();
            assert_eq!(std::fs::metadata(&diff).unwrap().blocks() * 512, 2 * PAGE, "one page, and the mark");
        }
    }

    #[test]
    fn memory_above_the_gap_follows_that_below() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("full");
        let bytes = layout::MMIO_GAP + BYTES;
        let memory = map_guest_ram(bytes).unwrap();
        memory.write_obj(9u8, GuestAddress(layout::MMIO_GAP_END + 0x3000)).unwrap();
        write_full(&memory, &Ram::Shared, &page_map().unwrap(), &path).unwrap();
        let copy = map_copy_of(&File::open(&path).unwrap(), bytes, &[]).unwrap();
        assert_eq!(read(&copy, layout::MMIO_GAP_END + 0x3000), 9);
        copy.write_obj(8u8, GuestAddress(layout::MMIO_GAP_END + 0x5000)).unwrap();
        let diff = dir.path().join("diff");
        write_diff(&copy, &page_map().unwrap(), &diff).unwrap();
        rebase(&path, &diff).unwrap();
        let copy = map_copy_of(&File::open(&path).unwrap(), bytes, &[]).unwrap();
        assert_eq!(read(&copy, layout::MMIO_GAP_END + 0x5000), 8);
    }

    #[test]
    fn what_is_no_diff_of_the_base_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (base, diff) = (dir.path().join("base"), dir.path().join("diff"));
        std::fs::write(&base, [1; 4096]).unwrap();
        for other in [vec![0; 4096], vec![0; 8192], [&[0; 8192], DIFF_MARK].concat()] {
            std::fs::write(&diff, other).unwrap();
            assert!(matches!(rebase(&base, &diff), Err(SnapshotError::NotADiff { .. })));
        }
        assert_eq!(std::fs::read(&base).unwrap(), [1; 4096]);
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "old").unwrap();
        replace(&path, |_| Err(io::ErrorKind::StorageFull.into())).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
