//! The resident pages of this program's code and constants.
//!
//! Building a machine and booting its guest run through code that a machine at work never sees again, and the kernel maps
//! what is around each page that is touched. What the machine does need comes back from the page cache when it is touched
//! next.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::Range;

use rustix::mm::{Advice, madvise};

/// What this process has mapped.
pub(crate) const SMAPS: &str = "/proc/self/smaps";

/// Where they are.
#[derive(Debug, Clone)]
pub(crate) struct CodePages(Vec<Range<usize>>);

impl CodePages {
    /// Looks for them. In a jail there is no /proc to look in.
    ///
    /// # Errors
    /// [`SMAPS`] cannot be read.
    pub(crate) fn find() -> io::Result<Self> {
        Ok(Self(clean_mappings(BufReader::new(File::open(SMAPS)?))?))
    }

    /// Gives the pages back. Those that are needed fault in again.
    ///
    /// # Errors
    /// What madvise(2) says; no harm is done.
    pub(crate) fn give_back(&self) -> io::Result<()> {
        for range in &self.0 {
            let start = std::ptr::with_exposed_provenance_mut(range.start);
            // SAFETY: the mapping is private, of a file, and none of its pages was its own: they are those of the page
            // cache, which every later access finds again. It is not writable and stays so, as it is this program's code
            // or constants, so that none has become its own since.
            unsafe { madvise(start, range.len(), Advice::LinuxDontNeed) }?;
        }
        Ok(())
    }
}

/// The mappings of proc(5)'s `smaps` that are private, of a file, not writable, and hold no page of their own: not the
/// tables that were relocated.
fn clean_mappings(smaps: impl BufRead) -> io::Result<Vec<Range<usize>>> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("Anonymous:"), Some("0")) => found.extend(candidate.take()),
            (Some(range), Some(rights)) if !range.ends_with(':') => {
                let is_of_file = words.nth(2).is_some_and(|inode| inode != "0");
                let is_fixed = rights.starts_with('r') && !rights.contains('w') && rights.ends_with('p');
                candidate = parse_range(range).filter(|_| is_of_file && is_fixed);
            }
            _ => {}
        }
    }
    Ok(found)
}

fn parse_range(text: &str) -> Option<Range<usize>> {
    let (start, end) = text.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unchanged_code_and_constants_are_given_back() {
        let smaps = "\
1000-3000 r--p 00000000 08:01 42 /bin/carve\nSize: 8 kB\nAnonymous: 0 kB\nVmFlags: rd mr
3000-9000 r-xp 00002000 08:01 42 /bin/carve\nAnonymous:             0 kB
9000-a000 r--p 00008000 08:01 42 /bin/carve\nAnonymous: 4 kB
a000-b000 rw-p 00009000 08:01 42 /bin/carve\nAnonymous: 0 kB
b000-c000 r--s 00000000 08:01 43 /dev/shm/x\nAnonymous: 0 kB
c000-d000 r-xp 00000000 00:00 0 [vdso]\nAnonymous: 0 kB
d000-e000 r--p 00000000 00:00 0 \nAnonymous: 0 kB
";
        assert_eq!(clean_mappings(smaps.as_bytes()).unwrap(), [0x1000..0x3000, 0x3000..0x9000]);
    }

    #[test]
    fn code_goes_away_and_comes_back() {
        let code = CodePages::find().unwrap();
        let resident = || {
            let smaps = std::fs::read_to_string(SMAPS).unwrap();
            let of_code = smaps.split_inclusive("VmFlags").filter(|mapping| mapping.contains(" r-xp "));
            let rss =
                of_code.filter_map(|mapping| mapping.lines().find_map(|line| line.strip_prefix("Rss:")));
            rss.map(|rss| rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap()).sum::<u64>()
        };
        let before = resident();
        code.give_back().unwrap();
        let after = resident();
        assert!(after < before, "{before} KiB before, {after} after");
    }
}
