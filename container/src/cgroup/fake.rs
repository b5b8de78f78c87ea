//! Groups for tests: plain files in place of control files, so what is written to one is its content at once.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::{Cgroup, V1Dir};

/// A group in one v1 tree that has these controllers, with these files; it goes with the directory.
pub(super) fn v1(controllers: &[&str], files: &[(&str, &str)]) -> (TempDir, Cgroup) {
    let dir = directory(files);
    let controllers = controllers.iter().map(|&controller| controller.to_owned()).collect();
    let v1 = V1Dir { controllers, tree: "all".into(), dir: dir.path().into() };
    (dir, Cgroup { v1: vec![v1], ..nowhere() })
}

/// A group in the v2 tree, with these files; it goes with the directory.
pub(super) fn v2(files: &[(&str, &str)]) -> (TempDir, Cgroup) {
    let dir = directory(files);
    let group = Cgroup { v2: Some(dir.path().into()), ..nowhere() };
    (dir, group)
}

/// A group that exists in no tree.
pub(super) fn nowhere() -> Cgroup {
    Cgroup::nowhere(Path::new("/x"))
}

fn directory(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}
