//! The guest's own view of its memory.

use agent::protocol::GuestStats;

use crate::files::read_text;

/// Bytes of a page on x86-64.
const PAGE_SIZE: u64 = 4096;

/// Reads `/proc/meminfo` and `/proc/self/statm`; what they do not say is 0.
pub(crate) fn read() -> GuestStats {
    let resident_pages = read_text("/proc/self/statm").split(' ').nth(1).and_then(|pages| pages.parse().ok());
    GuestStats {
        agent: resident_pages.unwrap_or(0u64).saturating_mul(PAGE_SIZE),
        ..from_meminfo(&read_text("/proc/meminfo"))
    }
}

/// `Name:   number kB` lines (proc(5)).
fn from_meminfo(text: &str) -> GuestStats {
    let bytes = |wanted: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(wanted)?.strip_prefix(':'));
        let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or(0).saturating_mul(1024)
    };
    GuestStats {
        total: bytes("MemTotal"),
        free: bytes("MemFree"),
        page_cache: bytes("Cached").saturating_add(bytes("Buffers")),
        anon: bytes("AnonPages"),
        kernel: bytes("Slab").saturating_add(bytes("KernelStack")).saturating_add(bytes("PageTables")),
        agent: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_by_whole_names() {
        let text = "MemTotal:         100 kB\nMemFree:          40 kB\nSwapCached:      999 kB\nCached:  7 kB\n\
                    Buffers: 3 kB\nAnonPages: 5 kB\nSlab: 1 kB\nKernelStack: 2 kB\nPageTables: x kB\n";
        let expected = GuestStats {
            total: 100 << 10,
            free: 40 << 10,
            page_cache: 10 << 10,
            anon: 5 << 10,
            kernel: 3 << 10,
            agent: 0,
        };
        assert_eq!(from_meminfo(text), expected);
    }

    #[test]
    fn this_machine_has_memory() {
        let stats = read();
        assert!(stats.total > stats.free && stats.free > 0 && stats.agent > 0, "{stats:?}");
    }
}
