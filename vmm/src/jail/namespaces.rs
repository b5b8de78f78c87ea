//! Namespaces of the VMM's own. Its PID namespace is made by its parent, who must be outside of it.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{getgid, getuid};
use rustix::thread::UnshareFlags;

use super::JailError;
use crate::sys::namespaces::unshare;

/// A thread that has been joined is still there for some microseconds, in which it does nothing.
const DYING: Duration = Duration::from_millis(200);
/// `PF_IO_WORKER` and `PF_USER_WORKER` of linux/sched.h.
const KERNEL_WORKER: u32 = 0x10 | 0x4000;
/// What the VMM leaves.
const LEFT: UnshareFlags =
    UnshareFlags::NEWNS.union(UnshareFlags::NEWIPC).union(UnshareFlags::NEWUTS).union(UnshareFlags::NEWNET);

/// Leaves the host's mount, IPC, UTS and network namespaces; who is not root, by a user namespace.
///
/// # Errors
/// The host gives none.
pub(super) fn leave(is_root: bool) -> Result<(), JailError> {
    let what = "leave the host's namespaces";
    if is_root {
        unshare(LEFT).map_err(JailError::of(what))?;
    } else {
        let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
        unshare(LEFT | UnshareFlags::NEWUSER).map_err(JailError::of(what))?;
        let map = || {
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
            fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
        };
        map().map_err(JailError::of("map its user into a user namespace"))?;
    }
    // Mounts of the host made from now on are not seen here, and none of ours there.
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", private).map_err(JailError::of("keep its mounts to itself"))?;
    rustix::system::sethostname(b"vm").map_err(JailError::of("forget the host's name"))
}

/// A thread that is there before the jail would stay outside of parts of it.
///
/// # Errors
/// There is one.
pub(super) fn check_single_thread() -> Result<(), JailError> {
    let deadline = Instant::now() + DYING;
    loop {
        let threads = threads().map_err(JailError::of("count its threads"))?;
        if threads.len() == 1 {
            return Ok(());
        }
        if Instant::now() > deadline {
            let named = io::Error::other(format!("there are {}", threads.join(" and ")));
            return Err(JailError::of("see to it that no thread stays outside")(named));
        }
        std::thread::yield_now();
    }
}

/// The names of this process's threads, without those that only run the kernel's code on its behalf: KVM has one.
fn threads() -> io::Result<Vec<String>> {
    let entries = fs::read_dir("/proc/self/task")?;
    // A thread may end between the two.
    let stat = |entry: io::Result<fs::DirEntry>| fs::read_to_string(entry?.path().join("stat"));
    Ok(entries.filter_map(|entry| name_of_ours(&stat(entry).ok()?)).collect())
}

/// The name in a thread's line of proc(5)'s `stat`, unless it is one of the kernel's.
fn name_of_ours(stat: &str) -> Option<String> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    // state, parent, group, session, terminal, its group, flags
    let flags: u32 = after.split_whitespace().nth(6)?.parse().ok()?;
    (flags & KERNEL_WORKER == 0).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_threads_are_none_of_ours() {
        let line = |name: &str, flags: u32| format!("7 ({name}) S 1 2 3 4 5 {flags} 0 0");
        assert_eq!(name_of_ours(&line("vcpu0", 0x40_0040)).as_deref(), Some("vcpu0"));
        assert_eq!(name_of_ours(&line("a) b (c", 0)).as_deref(), Some("a) b (c"));
        assert_eq!(name_of_ours(&line("kvm-nx-lpage-re", 0x40_4040)), None);
        assert_eq!(name_of_ours("nonsense"), None);
    }

    #[test]
    fn every_thread_is_found() {
        std::thread::Builder::new()
            .name("another".into())
            .spawn(|| assert!(threads().unwrap().contains(&"another".to_owned())))
            .unwrap()
            .join()
            .unwrap();
    }
}
