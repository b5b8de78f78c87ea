//! Freezing and thawing all processes of a group: the v1 freezer where there is one, else the v2 tree.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::{Cgroup, CgroupError, write};

/// How long a group may take to be frozen. A process in an uninterruptible sleep holds it up.
const PATIENCE: Duration = Duration::from_secs(10);

/// After so many looks at a v1 group that is still on its way, it is thawed for a moment: new processes that are made in
/// the middle can hold it up for ever otherwise.
const LOOKS: u32 = 50;

/// Freezes the group and waits until all its processes are; else it is left thawed.
pub(super) fn freeze(group: &Cgroup) -> Result<(), CgroupError> {
    freeze_within(group, PATIENCE)
}

/// As [`freeze`], for as long as this.
pub(super) fn freeze_within(group: &Cgroup, patience: Duration) -> Result<(), CgroupError> {
    let (dir, frozen) = match (group.v1_dir("freezer"), group.v2_dir()) {
        (Some(dir), _) => (dir, freeze_v1(dir, patience)?),
        (None, Some(dir)) => (dir, freeze_v2(dir, patience)?),
        (None, None) => return Err(CgroupError::NoFreezer { path: group.path.clone() }),
    };
    if frozen {
        return Ok(());
    }
    thaw(group)?;
    Err(CgroupError::NotFrozen { dir: dir.to_owned(), seconds: patience.as_secs() })
}

fn freeze_v1(dir: &Path, patience: Duration) -> Result<bool, CgroupError> {
    let file = dir.join("freezer.state");
    let deadline = Instant::now() + patience;
    let mut looks = 0;
    loop {
        write(&file, "FROZEN")?;
        if read(&file)?.is_none_or(|state| state.trim() == "FROZEN") {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        looks += 1;
        if looks % LOOKS == 0 {
            write(&file, "THAWED")?;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn freeze_v2(dir: &Path, patience: Duration) -> Result<bool, CgroupError> {
    write(&dir.join("cgroup.freeze"), "1")?;
    let deadline = Instant::now() + patience;
    let events = dir.join("cgroup.events");
    loop {
        if read(&events)?.is_none_or(|text| text.lines().any(|line| line == "frozen 1")) {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Thaws the group. One that was not frozen is left as it is.
pub(super) fn thaw(group: &Cgroup) -> Result<(), CgroupError> {
    match (group.v1_dir("freezer"), group.v2_dir()) {
        (Some(dir), _) => write(&dir.join("freezer.state"), "THAWED"),
        (None, Some(dir)) => write(&dir.join("cgroup.freeze"), "0"),
        (None, None) => Ok(()),
    }
}

/// Thaws the group and those below it that v1 keeps frozen, whoever froze them: no signal ends a process there.
pub(super) fn let_die(group: &Cgroup) {
    if let Some(dir) = group.v1_dir("freezer") {
        thaw_below(dir);
    }
}

fn thaw_below(dir: &Path) {
    // A group that vanishes meanwhile needs no thawing.
    let _gone = write(&dir.join("freezer.state"), "THAWED");
    for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            thaw_below(&entry.path());
        }
    }
}

/// Whether the group is frozen, or on its way to it.
pub(super) fn is_frozen(group: &Cgroup) -> Result<bool, CgroupError> {
    if let Some(dir) = group.v1_dir("freezer") {
        let state = read(&dir.join("freezer.state"))?;
        return Ok(state.is_some_and(|state| state.trim() != "THAWED"));
    }
    match group.v2_dir() {
        Some(dir) => Ok(read(&dir.join("cgroup.freeze"))?.is_some_and(|state| state.trim() == "1")),
        None => Ok(false),
    }
}

/// A file of the group; `None` when the group is gone.
fn read(file: &Path) -> Result<Option<String>, CgroupError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) if source.raw_os_error() == Some(libc::ENODEV) => {
            tracing::debug!("{}: {source}", file.display());
            Ok(None)
        }
        Err(source) => Err(CgroupError::Read { file: file.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    #[test]
    fn v1_is_frozen_and_thawed() {
        let (_dir, group) = fake::v1(&["freezer"], &[("freezer.state", "THAWED")]);
        freeze(&group).unwrap();
        assert!(is_frozen(&group).unwrap());
        thaw(&group).unwrap();
        assert!(!is_frozen(&group).unwrap());
    }

    #[test]
    fn v2_that_is_never_frozen_is_left_thawed() {
        let (_dir, group) = fake::v2(&[("cgroup.freeze", "0"), ("cgroup.events", "populated 1\nfrozen 0\n")]);
        let error = freeze_within(&group, Duration::from_millis(5)).unwrap_err();
        assert!(matches!(error, CgroupError::NotFrozen { .. }), "{error}");
        assert!(!is_frozen(&group).unwrap());
    }

    #[test]
    fn v2_is_frozen_when_its_events_say_so() {
        let (_dir, group) = fake::v2(&[("cgroup.freeze", "0"), ("cgroup.events", "populated 1\nfrozen 1\n")]);
        freeze(&group).unwrap();
        assert!(is_frozen(&group).unwrap());
    }

    #[test]
    fn without_a_freezer_that_is_said() {
        let group = fake::nowhere();
        assert!(matches!(freeze(&group), Err(CgroupError::NoFreezer { .. })));
    }
}
