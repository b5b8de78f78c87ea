//! Taking the contents of mapped pages away.

use std::io;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use vm_memory::VolatileSlice;

/// Drops the contents of `pages` from this mapping: what is read there next is zero, or what the file behind a private
/// mapping holds. Has no effect on a shared mapping.
///
/// # Errors
/// What madvise(2) says.
pub(crate) fn discard(pages: &VolatileSlice<'_>) -> io::Result<()> {
    let guard = pages.ptr_guard_mut();
    // SAFETY: the range is mapped as long as `pages` lives. It is memory that others change at any time, so that no Rust
    // reference to it exists and nobody counts on its contents.
    unsafe { madvise(guard.as_ptr().cast(), guard.len(), Advice::LinuxDontNeed) }?;
    Ok(())
}

/// Maps fresh anonymous memory, zero when it is read, in place of `pages`.
///
/// # Errors
/// What mmap(2) says: `pages` is not made of whole pages, or the process has too many mappings.
pub(crate) fn replace(pages: &VolatileSlice<'_>) -> io::Result<()> {
    let guard = pages.ptr_guard_mut();
    if !guard.len().is_multiple_of(rustix::param::page_size()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
    // SAFETY: the range is whole pages of a mapping that belongs to whoever owns `pages`, and stays mapped throughout.
    // It is memory that others change at any time, so that no Rust reference to it exists.
    unsafe { mmap_anonymous(guard.as_ptr().cast(), guard.len(), protection, flags) }?;
    Ok(())
}
