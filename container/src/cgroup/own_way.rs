//! A process that goes into its v1 groups by itself.
//!
//! While a process is moved into a group by another, no process of the host may fork or end, and the kernel waits until all
//! CPUs know (`cgroup_threadgroup_rwsem`): 7 ms and more. A thread that moves itself needs none of that (since Linux 5.6,
//! `cgroup_procs_write_start` in kernel/cgroup/cgroup.c), and a process of one thread is as good as moved then.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use super::{Cgroup, CgroupError};

/// The files of a container's v1 groups, opened by its creator, or by who executes a further program in it: the process itself
/// may have neither the path nor the right to open them.
#[derive(Debug)]
pub(crate) struct OwnWay(Vec<(PathBuf, File)>);

impl OwnWay {
    /// Opens them.
    pub(crate) fn into(cgroup: &Cgroup) -> Result<Self, CgroupError> {
        let files = cgroup.v1.iter().map(|group| {
            let path = group.dir.join("tasks");
            match OpenOptions::new().write(true).open(&path) {
                Ok(file) => Ok((path, file)),
                Err(source) => Err(CgroupError::Write { file: path, value: OWN.to_owned(), source }),
            }
        });
        Ok(Self(files.collect::<Result<_, _>>()?))
    }

    /// The descriptors, for who closes all others.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|(_, file)| file.as_fd())
    }

    /// Goes there. The calling thread must be the only one.
    pub(crate) fn go(&self) -> Result<(), CgroupError> {
        self.0.iter().try_for_each(|(path, file)| {
            let written = (&*file).write_all(OWN.as_bytes());
            written.map_err(|source| CgroupError::Write { file: path.clone(), value: OWN.to_owned(), source })
        })
    }
}

/// The thread that writes it.
const OWN: &str = "0";
