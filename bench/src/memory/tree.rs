//! Which processes belong to an instance: some roots and all their descendants.

use std::collections::BTreeSet;
use std::fs;

/// A process and its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The process.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
}

/// `roots` and everything below them, in ascending order.
#[must_use]
pub fn with_descendants(roots: &[u32], parents: &[Parent]) -> Vec<u32> {
    let mut members: BTreeSet<u32> = roots.iter().copied().collect();
    loop {
        let before = members.len();
        members.extend(
            parents.iter().filter(|p| members.contains(&p.parent)).map(|p| p.pid).collect::<Vec<_>>(),
        );
        if members.len() == before {
            return members.into_iter().collect();
        }
    }
}

/// All processes of the host, as far as they can be read.
#[must_use]
pub fn all() -> Vec<Parent> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some(Parent { pid, parent: parent_in_stat(&stat)? })
        })
        .collect()
}

/// The parent's id in `/proc/PID/stat`. The second field is the name in parentheses and may hold anything.
fn parent_in_stat(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_descendants_at_any_depth_and_no_others() {
        let parents =
            [(10, 1), (12, 11), (11, 10), (13, 2), (14, 12)].map(|(pid, parent)| Parent { pid, parent });
        assert_eq!(with_descendants(&[10], &parents), [10, 11, 12, 14]);
        assert_eq!(with_descendants(&[13, 12], &parents), [12, 13, 14]);
    }

    #[test]
    fn a_name_may_hold_spaces_and_parentheses() {
        assert_eq!(parent_in_stat("7 (a) b (c)) S 42 7 7 0"), Some(42));
        assert_eq!(parent_in_stat("7 nonsense"), None);
    }

    #[test]
    fn sees_this_process() {
        let me = std::process::id();
        assert!(all().iter().any(|p| p.pid == me));
    }
}
