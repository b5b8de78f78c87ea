//! The state directory: one directory for each container, with a lock.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::error::RuntimeError;
use super::record::Record;
use super::trees::Trees;
use crate::cgroup::Cgroup;
use crate::plan;

/// How long a command waits for another one that works on the same container.
const PATIENCE: Duration = Duration::from_secs(10);

const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
const START: &str = "start";
/// A file that is being written, until it gets its name.
const NEW: &str = "new";

/// The largest file of the state directory that is read, in bytes.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// All containers.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
    trees: Trees,
}

/// One container's directory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: String,
    dir: OwnedFd,
    path: PathBuf,
    trees: Trees,
}

/// The lock on a container's directory; given back when dropped, or when this process ends.
#[derive(Debug)]
pub(super) struct Locked<'a>(&'a Entry);

impl Store {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, trees: Trees::default() }
    }

    /// The host's cgroup trees.
    pub(super) fn trees(&self) -> &Trees {
        &self.trees
    }

    pub(super) fn ids(&self) -> Result<Vec<String>, RuntimeError> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| RuntimeError::file(&self.root, error))?,
        };
        let names = entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok());
        let mut ids: Vec<String> = names.filter(|name| plan::checked_id(name).is_ok()).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Makes the directory of a new container.
    pub(super) fn make(&self, id: &str) -> Result<Entry, RuntimeError> {
        plan::checked_id(id)?;
        let private = |recursive| {
            let mut builder = DirBuilder::new();
            builder.mode(0o700).recursive(recursive);
            builder
        };
        private(true).create(&self.root).map_err(|error| RuntimeError::file(&self.root, error))?;
        let path = self.root.join(id);
        private(false).create(&path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => RuntimeError::Exists { id: id.to_owned() },
            _ => RuntimeError::file(&path, error),
        })?;
        self.open(id)
    }

    pub(super) fn open(&self, id: &str) -> Result<Entry, RuntimeError> {
        plan::checked_id(id)?;
        let path = self.root.join(id);
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(dir) => Ok(Entry { id: id.to_owned(), dir, path, trees: self.trees.clone() }),
            Err(Errno::NOENT) => Err(RuntimeError::NotFound { id: id.to_owned() }),
            Err(errno) => Err(RuntimeError::file(&path, errno)),
        }
    }
}

impl Entry {
    /// Waits until no other command works on the container.
    ///
    /// # Errors
    /// When that takes too long, or the container was deleted meanwhile.
    pub(super) fn lock(&self) -> Result<Locked<'_>, RuntimeError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match flock(&self.dir, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::AGAIN) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                Err(Errno::AGAIN) => {
                    return Err(RuntimeError::Busy { id: self.id.clone(), seconds: PATIENCE.as_secs() });
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(RuntimeError::file(&self.path, errno)),
            }
        }
        let locked = Locked(self);
        let links =
            rustix::fs::fstat(&self.dir).map_err(|errno| RuntimeError::file(&self.path, errno))?.st_nlink;
        if links == 0 {
            return Err(RuntimeError::NotFound { id: self.id.clone() });
        }
        Ok(locked)
    }

    /// Whether a command works on the container.
    pub(super) fn is_locked(&self) -> bool {
        match flock(&self.dir, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                let _given_back = flock(&self.dir, FlockOperation::Unlock);
                false
            }
            Err(errno) => errno == Errno::AGAIN,
        }
    }

    /// What is written down; `None` when its creation came to nothing before that.
    pub(super) fn record(&self) -> Result<Option<Record>, RuntimeError> {
        let Some(json) = self.read(STATE)? else { return Ok(None) };
        let record = serde_json::from_slice(&json);
        record.map(Some).map_err(|error| RuntimeError::file(self.path.join(STATE), error))
    }

    /// The group of the container that this record describes, as far as there is one.
    pub(super) fn cgroup(&self, record: &Record) -> Result<Cgroup, RuntimeError> {
        let group = Cgroup::open(self.trees.get()?, &record.cgroup)?;
        Ok(group.with_made_parents(record.cgroup_made_parents))
    }

    /// The host's cgroup trees.
    pub(super) fn trees(&self) -> &Trees {
        &self.trees
    }

    pub(super) fn config(&self) -> Result<Option<Vec<u8>>, RuntimeError> {
        self.read(CONFIG)
    }

    /// The path of the socket to be started by. It is short whatever the state directory's is: a socket's path may have
    /// 107 bytes (unix(7)).
    pub(super) fn start_socket(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{START}", self.dir.as_raw_fd()))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, RuntimeError> {
        let failed = |source: io::Error| RuntimeError::file(self.path.join(name), source);
        let file = match openat(&self.dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            file => File::from(file.map_err(|errno| failed(errno.into()))?),
        };
        // In one piece and not in growing ones.
        let size = file.metadata().map_err(failed)?.len().min(MAX_FILE_BYTES);
        let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
        file.take(MAX_FILE_BYTES).read_to_end(&mut content).map_err(failed)?;
        Ok(Some(content))
    }
}

impl Locked<'_> {
    /// What is locked.
    pub(super) fn entry(&self) -> &Entry {
        self.0
    }

    /// Writes down what the container is, at once or not at all.
    pub(super) fn write_record(&self, record: &Record) -> Result<(), RuntimeError> {
        let json = serde_json::to_vec(record).map_err(|error| RuntimeError::file(self.path(STATE), error))?;
        self.write(STATE, &json)
    }

    /// Writes the configuration down, at once or not at all.
    pub(super) fn write_config(&self, json: &[u8]) -> Result<(), RuntimeError> {
        self.write(CONFIG, json)
    }

    /// Removes the directory; the record goes last, so that what is half removed can be removed again.
    pub(super) fn remove(self) -> Result<(), RuntimeError> {
        for name in [START, CONFIG, NEW, STATE] {
            match unlinkat(&self.0.dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(RuntimeError::file(self.path(name), errno)),
            }
        }
        match fs::remove_dir(&self.0.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(RuntimeError::file(&self.0.path, error)),
            _ => Ok(()),
        }
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), RuntimeError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = openat(&self.0.dir, NEW, flags, Mode::from_raw_mode(0o600));
        file.map_err(io::Error::from)
            .and_then(|file| File::from(file).write_all(content))
            .and_then(|()| Ok(renameat(&self.0.dir, NEW, &self.0.dir, name)?))
            .map_err(|error| RuntimeError::file(self.path(name), error))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path.join(name)
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let _given_back = flock(&self.0.dir, FlockOperation::Unlock);
    }
}

impl AsRef<Path> for Entry {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("state"));
        (dir, store)
    }

    #[test]
    fn an_id_is_taken_once_until_it_is_removed() {
        let (_dir, store) = store();
        assert!(store.ids().unwrap().is_empty());
        let entry = store.make("web").unwrap();
        assert!(matches!(store.make("web"), Err(RuntimeError::Exists { .. })));
        assert_eq!(store.ids().unwrap(), ["web"]);
        let second = store.open("web").unwrap();
        entry.lock().unwrap().remove().unwrap();
        assert!(matches!(second.lock(), Err(RuntimeError::NotFound { .. })));
        assert!(matches!(store.open("web"), Err(RuntimeError::NotFound { .. })));
    }

    #[test]
    fn no_id_leads_out_of_the_directory() {
        let (dir, store) = store();
        for id in ["..", ".", "a/b", "/etc", "", "a\0b"] {
            assert!(matches!(store.make(id), Err(RuntimeError::Plan(_))), "{id:?}");
            assert!(matches!(store.open(id), Err(RuntimeError::Plan(_))), "{id:?}");
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).unwrap();
        let linked = Store::new(dir.path().to_owned());
        assert!(linked.open("link").is_err());
    }

    #[test]
    fn a_lock_is_seen_by_others_and_given_back() {
        let (_dir, store) = store();
        let (one, two) = (store.make("web").unwrap(), store.open("web").unwrap());
        let locked = one.lock().unwrap();
        assert!(two.is_locked());
        drop(locked);
        assert!(!two.is_locked());
        two.lock().unwrap();
    }

    #[test]
    fn a_damaged_record_is_an_error_and_a_missing_one_is_none() {
        let (_dir, store) = store();
        let entry = store.make("web").unwrap();
        assert_eq!(entry.record().unwrap(), None);
        fs::write(entry.as_ref().join(STATE), "{\"id\": 3").unwrap();
        let error = entry.record().unwrap_err().to_string();
        assert!(error.contains("state.json"), "{error}");
        entry.lock().unwrap().remove().unwrap();
    }
}
