//! Memory as the kernel accounts it.

use std::fs;

use anyhow::{Context, Result};

/// Resident memory of a process, guest RAM apart.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Resident {
    /// Outside of guest RAM, in MiB: all of it, and its share of what other processes map as well.
    pub(super) own_mib: f64,
    pub(super) own_share_mib: f64,
    /// What of it no file holds: heap, stacks, tables that were written.
    pub(super) anonymous_mib: f64,
    /// What of it is code, constants and anything else that a file or a driver holds.
    pub(super) of_files_mib: f64,
    /// Guest RAM in MiB.
    pub(super) guest_mib: f64,
}

/// Sums up `/proc/PID/smaps`.
pub(super) fn resident(pid: u32) -> Result<Resident> {
    let path = format!("/proc/{pid}/smaps");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(sum(&text))
}

/// MiB that the host could give to new processes.
pub(super) fn available_mib() -> Result<f64> {
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let field = text.lines().find_map(|line| kib(line, "MemAvailable:"));
    field.map(|kib| kib / 1024.0).context("/proc/meminfo has no MemAvailable")
}

fn sum(smaps: &str) -> Resident {
    let mut resident = Resident::default();
    let mut is_guest = false;
    for line in smaps.lines() {
        let first = line.split(' ').next().unwrap_or_default();
        if first.contains('-') && !first.ends_with(':') {
            is_guest = line.contains("memfd:guest-ram") || line.ends_with(".memory");
        } else if let Some(kib) = kib(line, "Rss:") {
            *(if is_guest { &mut resident.guest_mib } else { &mut resident.own_mib }) += kib / 1024.0;
        } else if let (Some(kib), false) = (kib(line, "Pss:"), is_guest) {
            resident.own_share_mib += kib / 1024.0;
        } else if let (Some(kib), false) = (kib(line, "Anonymous:"), is_guest) {
            resident.anonymous_mib += kib / 1024.0;
        }
    }
    resident.of_files_mib = resident.own_mib - resident.anonymous_mib;
    resident
}

fn kib(line: &str, name: &str) -> Option<f64> {
    line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_ram_is_counted_apart() {
        let smaps = "\
55d0-55d1 r-xp 00000000 fe:00 12 /usr/bin/carve
Rss:                2048 kB
Pss:                1024 kB
7f00-7f10 rw-s 00000000 00:01 99 /memfd:guest-ram (deleted)
Rss:                4096 kB
Pss:                4096 kB
7f20-7f30 rw-p 00000000 fe:00 13 /tmp/a.memory
Rss:                1024 kB
Pss:                 512 kB
Anonymous:           512 kB
7f40-7f50 rw-p 00000000 00:00 0
Rss:                 512 kB
Pss:                 512 kB
Anonymous:           512 kB
";
        let wanted = Resident {
            own_mib: 2.5,
            own_share_mib: 1.5,
            anonymous_mib: 0.5,
            of_files_mib: 2.0,
            guest_mib: 5.0,
        };
        assert_eq!(sum(smaps), wanted);
    }
}
