//! The events a runtime reports: lines of JSON appended to a file as they occur, watched by inotify.

use std::fs::File;
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::inotify;
use serde::Deserialize;

use super::ExecuteError;
use super::poll::{system, wait};

/// The most that is read of one file, in bytes.
const MOST: usize = 1 << 20;

/// An instant that the runtime reported.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Event {
    /// Its name.
    pub event: String,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub ns: u64,
}

/// How a wait for an event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// The event has occurred.
    Seen,
    /// The command ended without it.
    Ended,
    /// Time is up.
    TimedOut,
}

/// A file of events, read as it grows.
pub(super) struct EventFile {
    file: File,
    changes: OwnedFd,
    unread: Vec<u8>,
    taken: usize,
    events: Vec<Event>,
}

impl EventFile {
    /// Makes an empty file at `path` and watches it.
    pub(super) fn create(path: &Path) -> Result<Self, ExecuteError> {
        let failed = |source| ExecuteError::File { doing: "make", path: path.to_owned(), source };
        let file =
            File::options().create(true).truncate(true).read(true).write(true).open(path).map_err(failed)?;
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let changes = inotify::init(flags).map_err(|e| system("watch files")(e.into()))?;
        inotify::add_watch(&changes, path, inotify::WatchFlags::MODIFY).map_err(|e| failed(e.into()))?;
        Ok(Self { file, changes, unread: Vec::new(), taken: 0, events: Vec::new() })
    }

    /// The events so far, in the order written.
    pub(super) fn read(&mut self) -> Result<&[Event], ExecuteError> {
        let left = MOST.saturating_sub(self.taken);
        let mut news = Vec::new();
        let mut limited = Read::by_ref(&mut self.file).take(left as u64);
        self.taken += limited.read_to_end(&mut news).map_err(system("read the events"))?;
        self.unread.extend(news);
        if let Some(end) = self.unread.iter().rposition(|byte| *byte == b'\n') {
            let whole: Vec<u8> = self.unread.drain(..=end).collect();
            self.events.extend(parse(&whole));
        }
        Ok(&self.events)
    }

    /// The name of the last event.
    pub(super) fn last(&self) -> Option<&str> {
        self.events.last().map(|event| event.event.as_str())
    }

    /// Waits for `event` until `until_ns`, or until `command`, a pidfd, ends.
    pub(super) fn wait_for(
        &mut self,
        event: &str,
        command: BorrowedFd<'_>,
        until_ns: u64,
    ) -> Result<Waited, ExecuteError> {
        loop {
            let (ended, in_time) = {
                let mut fds = [
                    PollFd::new(&self.changes, PollFlags::IN),
                    PollFd::from_borrowed_fd(command, PollFlags::IN),
                ];
                let in_time = wait(&mut fds, until_ns)?;
                (!fds[1].revents().is_empty(), in_time)
            };
            self.forget_changes();
            if self.read()?.iter().any(|seen| seen.event == event) {
                return Ok(Waited::Seen);
            }
            if ended {
                return Ok(Waited::Ended);
            }
            if !in_time {
                return Ok(Waited::TimedOut);
            }
        }
    }

    fn forget_changes(&self) {
        let mut buffer = [0_u8; 4096];
        // Nothing to forget is no error: the descriptor does not block.
        while rustix::io::read(&self.changes, &mut buffer).is_ok_and(|n| n > 0) {}
    }
}

/// The events in whole lines; a line that is none is passed over.
fn parse(lines: &[u8]) -> Vec<Event> {
    lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now_ns;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::time::Duration;

    fn never_ends() -> (std::process::Child, OwnedFd) {
        let child = std::process::Command::new("sleep").arg("30").spawn().expect("sleep runs");
        let pid = rustix::process::Pid::from_child(&child);
        let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("a pidfd");
        (child, fd)
    }

    #[test]
    fn passes_over_what_is_no_event() {
        let events = parse(
            b"{\"event\":\"a\",\"ns\":1,\"pid\":3}\nrubbish\n{\"event\":7}\n{\"event\":\"b\",\"ns\":2}\n",
        );
        assert_eq!(events.iter().map(|e| e.event.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn sees_an_event_written_in_two_pieces_while_it_waits() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("events");
        let mut events = EventFile::create(&path).expect("made");
        let (mut child, pidfd) = never_ends();
        let writer = std::thread::spawn(move || {
            let mut file = File::options().append(true).open(path).expect("opened");
            for piece in ["{\"event\":\"early\",\"ns\":1}\n{\"event\":\"app.", "started\",\"ns\":2}\n"] {
                std::thread::sleep(Duration::from_millis(20));
                file.write_all(piece.as_bytes()).expect("written");
            }
        });
        let waited = events.wait_for("app.started", pidfd.as_fd(), now_ns() + 10_000_000_000).expect("waits");
        assert_eq!((waited, events.last()), (Waited::Seen, Some("app.started")));
        writer.join().expect("the writer ends");
        child.kill().expect("killed");
        child.wait().expect("reaped");
    }

    #[test]
    fn says_whether_time_or_the_command_ended_first() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut events = EventFile::create(&dir.path().join("events")).expect("made");
        let (mut child, pidfd) = never_ends();
        let soon = events.wait_for("x", pidfd.as_fd(), now_ns() + 5_000_000).expect("waits");
        assert_eq!(soon, Waited::TimedOut);
        child.kill().expect("killed");
        let ended = events.wait_for("x", pidfd.as_fd(), now_ns() + 10_000_000_000).expect("waits");
        assert_eq!(ended, Waited::Ended);
        child.wait().expect("reaped");
    }
}
