//! A process and what it has started.

use std::fs;

/// A process and its descendants.
#[must_use]
pub fn processes(id: u32) -> Vec<u32> {
    let mut all = vec![id];
    let mut next = 0;
    while let Some(id) = all.get(next).copied() {
        let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
        for children in tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok()) {
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        next += 1;
    }
    all
}
