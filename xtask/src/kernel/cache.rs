//! The cache of finished kernels, outside the tree: `<cache>/kernel/<key>/`, with one work directory for the build
//! in progress and a lock that keeps two builds apart.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::ARTIFACTS;
use super::fragments::Wanted;
use crate::progress;

/// Raised when the steps of the build change in a way that the other parts of the key do not show.
const RECIPE: &str = "carve guest kernel, recipe 1";

/// The hash of everything that a kernel is made from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    /// The key for one version of the source package, set of symbols, compiler and linker, and compiler flags.
    pub(super) fn of(source_version: &str, wanted: &Wanted, toolchain: &str, flags: &str) -> Self {
        Self::of_parts(&[RECIPE, source_version, &wanted.merged(), toolchain, flags])
    }

    fn of_parts(parts: &[&str]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            // The length keeps ("ab", "c") and ("a", "bc") apart.
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(hex::encode(hasher.finalize()).chars().take(24).collect())
    }
}

/// The directory of kernels. Its layout: `<key>/` finished, `work-<key>/` under way, `lock`.
pub(super) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Opens `$CARVE_CACHE_DIR`, else `$XDG_CACHE_HOME/carve`, else `~/.cache/carve`, and makes it if need be.
    pub(super) fn open() -> Result<Self> {
        Self::at(cache_dir()?.join("kernel"))
    }

    fn at(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir)
            .with_context(|| format!("create {}; set CARVE_CACHE_DIR to a writable place", dir.display()))?;
        Ok(Self { dir })
    }

    /// The directory itself, for what is downloaded on the way.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory of the finished kernel, if it is there whole.
    pub(super) fn entry(&self, key: &Key) -> Option<PathBuf> {
        let dir = self.dir.join(&key.0);
        ARTIFACTS.iter().all(|name| dir.join(name).is_file()).then_some(dir)
    }

    /// Waits until no one else builds; the lock lasts as long as the file returned.
    pub(super) fn lock(&self) -> Result<File> {
        let path = self.dir.join("lock");
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        if file.try_lock().is_err() {
            progress::say("kernel", "another kernel build is under way; waiting for it");
            file.lock().with_context(|| format!("lock {}", path.display()))?;
        }
        Ok(file)
    }

    /// The directory to build `key` in. What an interrupted build left there is gone on with.
    pub(super) fn work_dir(&self, key: &Key) -> Result<PathBuf> {
        let dir = self.dir.join(format!("work-{}", key.0));
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(dir)
    }

    /// Moves a finished kernel in, in place of one of the same key.
    pub(super) fn store(&self, key: &Key, staging: &Path) -> Result<()> {
        let dir = self.dir.join(&key.0);
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        }
        fs::rename(staging, &dir).with_context(|| format!("move {} to {}", staging.display(), dir.display()))
    }

    /// Removes every work directory, also those of builds given up: each holds 1.6 GiB of source and objects.
    pub(super) fn remove_work_dirs(&self) -> Result<()> {
        for entry in fs::read_dir(&self.dir).with_context(|| format!("list {}", self.dir.display()))? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("work-")) {
                fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}

/// The place for what is built once and kept outside the tree.
///
/// # Errors
/// No environment variable names one.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    choose_dir(|name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from))
        .context("no place for the cache: set CARVE_CACHE_DIR, or HOME")
}

fn choose_dir(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    variable("CARVE_CACHE_DIR")
        .or_else(|| variable("XDG_CACHE_HOME").map(|dir| dir.join("carve")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/carve")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_changes_the_key_and_none_runs_into_the_next() {
        let parts = ["recipe", "6.1.192-2", "CONFIG_SMP=y\n", "gcc 12", "-O2"];
        let key = Key::of_parts(&parts);
        assert_eq!(key, Key::of_parts(&parts));
        assert_eq!(key.0.len(), 24);
        for index in 0..parts.len() {
            let mut changed = parts;
            changed[index] = "other";
            assert_ne!(key, Key::of_parts(&changed), "part {index}");
        }
        assert_ne!(Key::of_parts(&["ab", "c"]), Key::of_parts(&["a", "bc"]));
    }

    #[test]
    fn the_cache_directory_follows_the_first_variable_set() {
        let cases = [
            ("CARVE_CACHE_DIR=/c XDG_CACHE_HOME=/x HOME=/h", Some("/c")),
            ("XDG_CACHE_HOME=/x HOME=/h", Some("/x/carve")),
            ("HOME=/h", Some("/h/.cache/carve")),
            ("", None),
        ];
        for (variables, expected) in cases {
            let found = choose_dir(|name| {
                let mut set = variables.split(' ').filter_map(|variable| variable.split_once('='));
                set.find(|(n, _)| *n == name).map(|(_, value)| PathBuf::from(value))
            });
            assert_eq!(found, expected.map(PathBuf::from), "{variables}");
        }
    }

    #[test]
    fn an_entry_counts_only_when_whole_and_work_is_cleared_away() {
        let dir = std::env::temp_dir().join(format!("carve-cache-{}", std::process::id()));
        let cache = Cache::at(dir.clone()).unwrap();
        let key = Key::of_parts(&["k"]);
        let staging = cache.work_dir(&key).unwrap().join("done");
        fs::create_dir_all(&staging).unwrap();
        fs::write(staging.join("vmlinux"), "elf").unwrap();
        cache.store(&key, &staging).unwrap();
        assert_eq!(cache.entry(&key), None, "System.map is missing");

        fs::create_dir_all(&staging).unwrap();
        for name in ARTIFACTS {
            fs::write(staging.join(name), "whole").unwrap();
        }
        cache.store(&key, &staging).unwrap();
        assert_eq!(cache.entry(&key), Some(dir.join(&key.0)));

        cache.remove_work_dirs().unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(&dir).unwrap();
    }
}
