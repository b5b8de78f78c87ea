//! Proportional set sizes, from `/proc/PID/smaps_rollup` and `/proc/PID/smaps` (proc_pid_smaps(5)).

/// The name under which a guest's RAM is mapped into its VMM.
const GUEST_RAM: &str = "memfd:guest-ram";

/// The sum of the `Pss:` lines, in bytes: the total of a rollup. `None` when there is no such line, as for a kernel
/// thread or a process that has just ended.
#[must_use]
pub fn pss_bytes(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(pss_line).peekable();
    lines.peek()?;
    Some(lines.sum())
}

/// The proportional set size of the mappings that are a guest's RAM, in bytes, from the full `smaps`; `None` when
/// there is none.
#[must_use]
pub fn guest_ram_bytes(text: &str) -> Option<u64> {
    let mut found = None;
    let mut inside = false;
    for line in text.lines() {
        if is_header(line) {
            inside = line.contains(GUEST_RAM);
        } else if inside && let Some(bytes) = pss_line(line) {
            found = Some(found.unwrap_or(0) + bytes);
        }
    }
    found
}

/// A mapping's first line starts with its addresses; all others start with a capitalised name.
fn is_header(line: &str) -> bool {
    line.split_once('-')
        .is_some_and(|(from, _)| !from.is_empty() && from.chars().all(|c| c.is_ascii_hexdigit()))
}

fn pss_line(line: &str) -> Option<u64> {
    let kib: u64 = line.strip_prefix("Pss:")?.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55d0c0a00000-55d0c0b00000 r-xp 00000000 08:01 42 /usr/bin/carve
Size:               1024 kB
Pss:                 300 kB
Pss_Dirty:             0 kB
7f0000000000-7f0008000000 rw-s 00000000 00:01 77 /memfd:guest-ram (deleted)
Size:             131072 kB
Pss:               40000 kB
VmFlags: rd wr sh mr mw me ms
7f0010000000-7f0010100000 rw-s 08000000 00:01 77 /memfd:guest-ram (deleted)
Pss:                  96 kB
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]
Pss:                  12 kB
";

    #[test]
    fn separates_guest_ram_from_the_rest() {
        assert_eq!(guest_ram_bytes(SMAPS), Some(40_096 * 1024));
        assert_eq!(pss_bytes(SMAPS), Some(40_408 * 1024));
    }

    #[test]
    fn reads_a_rollup() {
        let rollup =
            "55d0-7ffd ---p 00000000 00:00 0 [rollup]\nRss:  900 kB\nPss:   512 kB\nPss_Anon: 100 kB\n";
        assert_eq!(pss_bytes(rollup), Some(512 * 1024));
    }

    #[test]
    fn what_is_not_there_is_absent() {
        assert_eq!(pss_bytes(""), None);
        assert_eq!(guest_ram_bytes("55d0-7ffd r--p 0 0:0 0 /bin/x\nPss: 4 kB\n"), None);
    }

    #[test]
    fn this_process_has_a_size() {
        let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").expect("Linux 4.14 or later");
        assert!(pss_bytes(&rollup).is_some_and(|bytes| bytes > 100_000));
    }
}
