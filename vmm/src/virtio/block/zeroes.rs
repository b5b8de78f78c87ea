//! Holes and zeroes in a host file: the cheapest way that the file system or block device has, and writing them where it
//! has none.

use std::fs::File;
use std::io::{self, IoSlice};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, pwritev, retry_on_intr};

/// What is written where nothing better works, many times in one call.
static ZEROES: [u8; 4096] = [0; 4096];
/// Most slices of zeroes in one call: 512 KiB.
const SLICES: usize = 128;

/// Gives a range of `file` back to its file system. Where that cannot be done nothing happens: a discard is a hint.
///
/// # Errors
///
/// The host's I/O error.
pub(super) fn discard(file: &File, offset: u64, length: u64) -> io::Result<()> {
    allocate(file, FallocateFlags::PUNCH_HOLE, offset, length).map(|_supported| ())
}

/// Has a range of `file` read as zeroes, with its space given back if `unmap` and the host can.
///
/// # Errors
///
/// The host's I/O error.
pub(super) fn write_zeroes(file: &File, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
    if unmap && allocate(file, FallocateFlags::PUNCH_HOLE, offset, length)?
        || allocate(file, FallocateFlags::ZERO_RANGE, offset, length)?
    {
        return Ok(());
    }
    write(file, offset, length)
}

/// Whether the host can do this; it is done then.
fn allocate(file: &File, mode: FallocateFlags, offset: u64, length: u64) -> io::Result<bool> {
    if length == 0 {
        return Ok(true);
    }
    match retry_on_intr(|| fallocate(file, mode | FallocateFlags::KEEP_SIZE, offset, length)) {
        Ok(()) => Ok(true),
        // EINVAL: a block device whose own blocks are larger than the guest's sectors.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn write(file: &File, mut offset: u64, mut length: u64) -> io::Result<()> {
    while length > 0 {
        let mut left = usize::try_from(length).unwrap_or(usize::MAX);
        let mut slices = Vec::with_capacity(SLICES.min(left.div_ceil(ZEROES.len())));
        while left > 0 && slices.len() < SLICES {
            let slice = &ZEROES[..left.min(ZEROES.len())];
            slices.push(IoSlice::new(slice));
            left -= slice.len();
        }
        let written = retry_on_intr(|| pwritev(file, &slices, offset))? as u64;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        offset += written;
        length -= written;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    const SIZE: u64 = 4 << 20;

    fn full() -> File {
        // Not in a tmpfs, which has no ZERO_RANGE; either way the result is the same.
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![0xaa; usize::try_from(SIZE).unwrap()], 0).unwrap();
        file
    }

    fn read(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn every_way_zeroes_the_range_and_nothing_else() {
        type Way = fn(&File, u64, u64) -> io::Result<()>;
        let ways: [(&str, Way); 3] = [
            ("holes", |file, offset, length| write_zeroes(file, offset, length, true)),
            ("zeroed in place", |file, offset, length| write_zeroes(file, offset, length, false)),
            ("written", write),
        ];
        for (name, way) in ways {
            for (offset, length) in [(512, 512), (0, SIZE), (1536, 1 << 20), (SIZE - 512, 512), (512, 0)] {
                let file = full();
                way(&file, offset, length).unwrap();
                let zeroed = |at: usize| (offset..offset + length).contains(&(at as u64));
                let wrong = read(&file)
                    .iter()
                    .enumerate()
                    .find(|&(at, &byte)| (byte == 0) != zeroed(at))
                    .map(|w| w.0);
                assert_eq!(wrong, None, "{name}: {length} bytes at {offset}");
            }
        }
    }

    #[test]
    fn a_discard_gives_space_back_and_keeps_the_size() {
        let file = full();
        file.sync_all().unwrap();
        let before = file.metadata().unwrap().blocks();
        discard(&file, 0, SIZE).unwrap();
        file.sync_all().unwrap();
        let after = file.metadata().unwrap();
        assert!(after.blocks() < before / 2, "{before} blocks, then {}", after.blocks());
        assert_eq!(after.len(), SIZE);
    }

    #[test]
    fn what_the_host_cannot_do_is_no_error_and_what_it_must_not_do_is_one() {
        let file = full();
        let (read, _write) = rustix::pipe::pipe().unwrap();
        assert!(discard(&File::from(read), 0, 512).is_err(), "a pipe has no ranges");
        let beyond = u64::MAX - 511;
        assert!(write_zeroes(&file, beyond, 512, true).is_err());
        assert_eq!(file.metadata().unwrap().len(), SIZE);
    }
}
