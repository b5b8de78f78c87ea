//! Puts an initrd near the top of low memory, away from where the kernel grows.

use std::fs::File;
use std::path::Path;

use super::BootError;
use crate::memory::{self, GuestMemory, layout};

const PAGE: u64 = 4096;
/// Left free above it, if there is room: the kernel maps memory from the top down, beginning with the first free 2 MiB,
/// and what is above these takes further rounds of some 100,000 instructions each (arch/x86/mm/init.c,
/// `memory_map_top_down`).
const TOP: u64 = 2 * layout::MIB;
/// A vmlinux cannot say how high an initrd may lie; every 64-bit kernel takes one below 2 GiB.
const HIGHEST_END: u64 = 0x8000_0000;

/// Where an initrd lies in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Initrd {
    /// Guest physical address, page-aligned.
    pub(super) address: u32,
    /// Length in bytes.
    pub(super) len: u32,
}

/// Loads the file at `path` as high as it may go, above `kernel_end`.
///
/// # Errors
/// It cannot be read, or does not fit between the kernel and the end of RAM.
pub(super) fn load(
    memory: &GuestMemory,
    memory_bytes: u64,
    kernel_end: u64,
    path: &Path,
) -> Result<Initrd, BootError> {
    let read_error = |source| BootError::Read { what: "initrd", path: path.into(), source };
    let file = File::open(path).map_err(read_error)?;
    let metadata = file.metadata().map_err(read_error)?;
    if !metadata.is_file() {
        return Err(read_error(std::io::Error::other("not a regular file")));
    }
    let end = memory_bytes.min(HIGHEST_END);
    let does_not_fit = || BootError::DoesNotFit {
        what: "initrd",
        path: path.into(),
        needed: kernel_end.saturating_add(metadata.len()),
        end,
    };
    let below = |end: u64| {
        let address = end.checked_sub(metadata.len())? / PAGE * PAGE;
        (address >= kernel_end).then_some(address)
    };
    let address = below(end.saturating_sub(TOP)).or_else(|| below(end)).ok_or_else(does_not_fit)?;
    let len = usize::try_from(metadata.len()).map_err(|_| does_not_fit())?;
    memory::fill_from_file(memory, address, &file, 0, len).map_err(read_error)?;
    // Both are below 2 GiB by HIGHEST_END.
    let (Ok(address), Ok(len)) = (u32::try_from(address), u32::try_from(len)) else {
        return Err(does_not_fit());
    };
    debug_assert!(u64::from(address) >= layout::HIGH_RAM);
    Ok(Initrd { address, len })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::memory::map_guest_ram;

    const RAM: u64 = 16 * layout::MIB;

    #[test]
    fn it_ends_below_the_top_on_a_page_boundary() {
        let memory = map_guest_ram(RAM).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[7; 5000]).unwrap();
        let initrd = load(&memory, RAM, 2 * layout::MIB, file.path()).unwrap();
        assert_eq!(initrd, Initrd { address: 0xdf_e000, len: 5000 });
        let last: u8 = memory.read_obj(GuestAddress(0xdf_e000 + 4999)).unwrap();
        assert_eq!(last, 7);
    }

    #[test]
    fn where_room_is_short_it_takes_the_top() {
        let memory = map_guest_ram(RAM).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[7; 5000]).unwrap();
        let initrd = load(&memory, RAM, RAM - layout::MIB, file.path()).unwrap();
        assert_eq!(initrd, Initrd { address: 0xff_e000, len: 5000 });
    }

    #[test]
    fn it_never_lands_on_the_kernel() {
        let memory = map_guest_ram(RAM).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[7; 5000]).unwrap();
        let error = load(&memory, RAM, RAM - 4096, file.path()).unwrap_err();
        assert!(matches!(error, BootError::DoesNotFit { what: "initrd", .. }), "{error}");
    }
}
