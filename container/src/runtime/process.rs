//! A container's first process, seen from outside.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::error::RuntimeError;
use super::record::Process;

/// More than 52 numbers and a name of at most 63 bytes take.
const MAX_LINE_BYTES: usize = 2048;

/// What /proc/PID/stat says.
struct Stat {
    start_time: u64,
    /// It has ended, with all its threads, and waits for its parent to notice.
    ended: bool,
    /// It is about to.
    ending: bool,
}

/// A bit of a process's flags, set from the beginning of its end (PF_EXITING, linux/sched.h).
const ENDING: u64 = 0x4;

impl Process {
    /// The process that has this id now.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn read(pid: i32) -> Result<Self, RuntimeError> {
        let path = stat_path(pid);
        match stat(pid) {
            Ok(Some(stat)) => Ok(Self { pid, start_time: stat.start_time }),
            Ok(None) => Err(RuntimeError::file(path, io::ErrorKind::NotFound)),
            Err(error) => Err(RuntimeError::file(path, error)),
        }
    }

    /// Whether it still runs.
    pub(super) fn is_alive(self) -> bool {
        let Ok(Some(stat)) = stat(self.pid) else { return false };
        stat.start_time == self.start_time && !stat.ended && !(stat.ending && self.waits_for_others_to_reap())
    }

    /// Whether it has given back everything and has no child left, but is not gone. So is the first process of a pid
    /// namespace until all processes of that are reaped (`zap_pid_ns_processes`, kernel/pid_namespace.c), and those that
    /// `exec` made are reaped by a process outside, the host's first one maybe, which may take its time.
    fn waits_for_others_to_reap(self) -> bool {
        let own = |name: &str| PathBuf::from(format!("/proc/{}/{name}", self.pid));
        let gave_back =
            fs::read_link(own("ns/mnt")).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let children = fs::read_to_string(own(&format!("task/{}/children", self.pid)));
        gave_back && children.is_ok_and(|children| children.trim().is_empty())
    }

    /// Whether it is process 1 of its pid namespace, whose end is the end of all processes there (pid_namespaces(7)).
    pub(super) fn is_first_of_its_namespace(self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        ids.and_then(|ids| ids.split_whitespace().last()).is_some_and(|innermost| innermost == "1")
    }

    /// Its descendants and itself: all processes of the container, where it is the first of a pid namespace.
    pub(super) fn tree(self) -> Vec<i32> {
        let mut found = if self.is_alive() { vec![self.pid] } else { Vec::new() };
        let mut next = 0;
        while let Some(pid) = found.get(next) {
            next += 1;
            for thread in
                fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok)
            {
                let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
                found.extend(children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// A descriptor of it, or `None` when it has ended.
    pub(super) fn open(self) -> Result<Option<OwnedFd>, RuntimeError> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            // Looked at after it was opened: the descriptor cannot become another's any more.
            Ok(pidfd) => Ok(self.is_alive().then_some(pidfd)),
            Err(Errno::SRCH) => Ok(None),
            Err(errno) => Err(RuntimeError::file(stat_path(self.pid), errno)),
        }
    }
}

fn stat_path(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/stat"))
}

fn stat(pid: i32) -> io::Result<Option<Stat>> {
    match read_line(pid) {
        Ok(text) => parse(&text).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // It ended while it was read.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The kernel gives the line as a whole to whoever has room for it.
fn read_line(pid: i32) -> io::Result<String> {
    let mut line = [0; MAX_LINE_BYTES];
    let length = File::open(stat_path(pid))?.read(&mut line)?;
    Ok(String::from_utf8_lossy(&line[..length]).into_owned())
}

fn parse(text: &str) -> Option<Stat> {
    // The name in parentheses may hold anything, parentheses and spaces too.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?;
    let flags: u64 = fields.nth(5)?.parse().ok()?;
    let threads: u64 = fields.nth(10)?.parse().ok()?;
    let start_time = fields.nth(1)?.parse().ok()?;
    // The first thread may be a zombie while others go on.
    let ended = matches!(state, "Z" | "X" | "x") && threads <= 1;
    Some(Stat { start_time, ended, ending: flags & ENDING != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_anything() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        for name in ["sh", "a) Z 1 2", "(", ") ) ("] {
            let stat = parse(&format!("7 ({name}) {rest}\n")).unwrap();
            assert_eq!(stat.start_time, 4711, "{name}");
            assert!(!stat.ended, "{name}");
        }
        for nonsense in ["", "7 (sh", "7 (sh) S", "7 (sh) S 1 2 x"] {
            assert!(parse(nonsense).is_none(), "{nonsense}");
        }
    }

    #[test]
    fn a_process_has_ended_with_its_last_thread() {
        // Fields 3 to 22: state, five ids, flags, ten counts, threads, one more, start time.
        let line = |state, flags, threads| {
            format!("7 (sh) {state} 1 7 7 0 -1 {flags} 1 2 3 4 5 6 7 8 20 0 {threads} 0 4711 99")
        };
        for (state, flags, threads, expected) in [
            ("S", 4_194_560, 1, (false, false)),
            ("S", 4_195_596, 1, (false, true)),
            ("Z", 4_195_596, 1, (true, true)),
            ("Z", 4_195_596, 2, (false, true)),
            ("X", 4_195_596, 0, (true, true)),
        ] {
            let stat = parse(&line(state, flags, threads)).unwrap();
            assert_eq!(
                (stat.ended, stat.ending, stat.start_time),
                (expected.0, expected.1, 4711),
                "{state} {threads}"
            );
        }
    }

    #[test]
    fn a_process_is_itself_and_not_one_with_its_id() {
        let me = Process::read(std::process::id().cast_signed()).unwrap();
        assert!(me.is_alive());
        assert!(me.open().unwrap().is_some());
        assert!(me.tree().contains(&me.pid));
        let other = Process { start_time: me.start_time + 1, ..me };
        assert!(!other.is_alive());
        assert!(other.open().unwrap().is_none());
        assert!(Process::read(i32::MAX).is_err());
    }
}
