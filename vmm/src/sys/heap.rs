//! The heap, which is to hold no more of the host's memory than is in use.

/// Allocations from this size on are mappings of their own, which go back to the host when they are freed, and cost nothing
/// where they are zero and nobody looks, in bytes.
#[cfg(target_env = "gnu")]
const OWN_MAPPING: libc::c_int = 128 << 10;

/// Has all threads use one heap, which the kernel makes longer and shorter, and large allocations always be mappings of their
/// own. Call it before there are threads.
///
/// Without being told, the C library gives each thread a heap, to shorten which it reads a file of /proc, and that would be
/// the end of a thread whose system calls are filtered; and it takes the first large allocation that is freed for a sign that more will
/// come, and keeps the memory.
pub(crate) fn set_up() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, OWN_MAPPING)] {
        // SAFETY: sets a parameter of the allocator, under its lock.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Gives whole pages of the heap that nobody uses back to the host, wherever in it they are: without being asked, the C
/// library does so at the heap's end only.
pub(crate) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own locks and touches nothing but what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}
