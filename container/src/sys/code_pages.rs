//! The resident pages of this program's code.

use rustix::mm::{Advice, madvise};

unsafe extern "C" {
    /// Where code begins and ends: symbols that the linker makes (ld(1), end(3)).
    static __executable_start: u8;
    static etext: u8;
}

/// Gives the pages of this program's code back: parsing a command line and a configuration runs through code that is not
/// needed again, and the kernel maps what is around each page that is touched. What is needed comes back from the page
/// cache.
pub fn give_back() {
    let page = rustix::param::page_size();
    let start = (&raw const __executable_start).addr().next_multiple_of(page);
    let end = (&raw const etext).addr() / page * page;
    let first = std::ptr::with_exposed_provenance_mut(start);
    // SAFETY: from the start of the program to the end of its code there are only mappings of its file, private and not
    // writable, so that each page is found again in the page cache.
    let _they_stay = unsafe { madvise(first, end.saturating_sub(start), Advice::LinuxDontNeed) };
}
