//! The poll loop while the app runs: input and signals down, output and the exit status up.
//!
//! ```text
//! Running ──(the app ended: kill and reap the rest)──▶ Draining ──(both pipes at their end)──▶ Exited sent
//!    └──────────────(engine lost, in either state: kill and reap all)─────────────▶ Lost
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agent::protocol::{FromAgent, ToAgent};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{WaitOptions, WaitStatus, wait};

use crate::app::App;
use crate::channel::{Channel, ChannelError};
use crate::sys::signals;
use crate::{log, power, stats};

/// Input that the app has not read yet, in bytes, beyond which the agent reads no more from the engine.
const INPUT_MAX: usize = 1 << 20;
/// A pipe that polls writable takes this many bytes without blocking (`PIPE_BUF`, pipe(7)).
const PIPE_BUF: usize = 4096;
/// Bytes of `struct signalfd_siginfo`.
const SIGNAL_INFO: usize = 128;

/// Relays until the app has ended and all of its output is with the engine; every process is gone then.
///
/// # Errors
/// [`ChannelError`] when the engine was lost.
pub(crate) fn run(channel: &mut Channel, signals: &OwnedFd, app: App) -> Result<(), ChannelError> {
    let mut relay = Relay {
        channel,
        signals,
        pid: app.pid,
        stdin: Some(app.stdin),
        outputs: [(FromAgent::STDOUT, Some(app.stdout)), (FromAgent::STDERR, Some(app.stderr))],
        input: Vec::new(),
        written: 0,
        input_ends: false,
        code: None,
    };
    let result = relay.run();
    if result.is_err() {
        power::end_all_processes();
    }
    result
}

struct Relay<'a> {
    channel: &'a mut Channel,
    signals: &'a OwnedFd,
    pid: i32,
    stdin: Option<OwnedFd>,
    /// Each with its frame kind, until it is at its end.
    outputs: [(u8, Option<OwnedFd>); 2],
    input: Vec<u8>,
    /// How much of `input` the app's pipe has taken.
    written: usize,
    /// The engine has closed the input.
    input_ends: bool,
    /// The app's exit code, once it has ended.
    code: Option<i32>,
}

/// What poll(2) found.
#[derive(Debug, Default)]
struct Ready {
    children: bool,
    channel: bool,
    outputs: [bool; 2],
    stdin: bool,
}

impl Relay<'_> {
    fn run(&mut self) -> Result<(), ChannelError> {
        loop {
            while let Some(message) = self.channel.next()? {
                self.take(message)?;
            }
            self.channel.flush()?;
            let drained = self.outputs.iter().all(|(_, fd)| fd.is_none()) && !self.channel.has_unsent();
            if let (Some(code), true) = (self.code, drained) {
                self.channel.queue(&FromAgent::Exited(code))?;
                return self.channel.flush_all();
            }
            let ready = self.wait()?;
            if ready.channel {
                self.channel.fill()?;
            }
            if ready.stdin {
                self.write_input();
            }
            for (at, ready) in ready.outputs.into_iter().enumerate() {
                if ready && !self.channel.has_unsent() {
                    self.read_output(at);
                    self.channel.flush()?;
                }
            }
            if ready.children {
                self.reap();
            }
        }
    }

    fn wait(&self) -> Result<Ready, ChannelError> {
        let nothing = PollFlags::empty();
        let backlog = self.input.len() - self.written;
        let mut channel = if backlog < INPUT_MAX { PollFlags::IN } else { nothing };
        channel.set(PollFlags::OUT, self.channel.has_unsent());
        let wants_output = if self.channel.has_unsent() { nothing } else { PollFlags::IN };
        let wants_input = if backlog > 0 { PollFlags::OUT } else { nothing };
        let [stdout, stderr] = &self.outputs;
        let mut fds = [
            PollFd::new(self.signals, PollFlags::IN),
            self.poll_fd(Some(self.channel.fd()), channel),
            self.poll_fd(stdout.1.as_ref().map(AsFd::as_fd), wants_output),
            self.poll_fd(stderr.1.as_ref().map(AsFd::as_fd), wants_output),
            self.poll_fd(self.stdin.as_ref().map(AsFd::as_fd), wants_input),
        ];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(error.into()),
        }
        let [children, channel, stdout, stderr, stdin] = fds.map(|fd| fd.revents());
        // An end or an error shows as readable: reading tells which it is.
        let beyond_writing = |events: PollFlags| !events.difference(PollFlags::OUT).is_empty();
        Ok(Ready {
            children: !children.is_empty(),
            channel: beyond_writing(channel),
            outputs: [!stdout.is_empty(), !stderr.is_empty()],
            stdin: !stdin.is_empty(),
        })
    }

    /// A descriptor that is closed by now is stood in for by one that is not asked anything.
    fn poll_fd<'a>(&'a self, fd: Option<BorrowedFd<'a>>, events: PollFlags) -> PollFd<'a> {
        match fd {
            Some(fd) => PollFd::from_borrowed_fd(fd, events),
            None => PollFd::new(self.signals, PollFlags::empty()),
        }
    }

    fn take(&mut self, message: ToAgent) -> Result<(), ChannelError> {
        match message {
            ToAgent::Stdin(bytes) => {
                if self.stdin.is_some() && !self.input_ends {
                    self.input.extend_from_slice(&bytes);
                }
            }
            ToAgent::CloseStdin => {
                self.input_ends = true;
                self.close_input_when_written();
            }
            ToAgent::Signal(number) => self.signal(number),
            ToAgent::Stats => self.channel.queue(&FromAgent::Stats(stats::read()))?,
            ToAgent::Shutdown => {
                // Fails only when nothing is left to kill.
                let _ = signals::kill(-1, libc::SIGKILL);
            }
            ToAgent::Start(_) => log::say("asked to start a second app; ignored"),
        }
        Ok(())
    }

    fn signal(&self, number: i32) {
        // Once reaped, its number may be another process's.
        if self.code.is_none()
            && let Err(error) = signals::kill(self.pid, number)
        {
            log::say(&format!("cannot send signal {number} to the app: {error}"));
        }
    }

    fn write_input(&mut self) {
        let Some(stdin) = &self.stdin else { return };
        if self.input.is_empty() {
            // Not asked to write and woken all the same: the app has closed its input.
            self.stdin = None;
            return;
        }
        let end = self.input.len().min(self.written + PIPE_BUF);
        match rustix::io::write(stdin, &self.input[self.written..end]) {
            Ok(n) => self.written += n,
            Err(Errno::INTR | Errno::AGAIN) => {}
            // The app has closed its input and will not read the rest.
            Err(_) => {
                self.stdin = None;
                self.written = self.input.len();
            }
        }
        if self.written == self.input.len() {
            self.input.clear();
            self.written = 0;
        } else if self.written >= INPUT_MAX {
            self.input.drain(..self.written);
            self.written = 0;
        }
        self.close_input_when_written();
    }

    fn close_input_when_written(&mut self) {
        if self.input_ends && self.input.is_empty() {
            self.stdin = None;
        }
    }

    fn read_output(&mut self, at: usize) {
        let (kind, fd) = &mut self.outputs[at];
        let Some(open) = fd else { return };
        match self.channel.queue_output(*kind, &*open) {
            Ok(1..) | Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(0) | Err(_) => *fd = None,
        }
    }

    /// Reaps whatever has ended. With the app goes everything else in the guest, as with a container's first process.
    fn reap(&mut self) {
        let mut info = [0u8; SIGNAL_INFO];
        // Only empties the descriptor: which children ended, wait(2) says.
        let _ = rustix::io::read(self.signals, &mut info);
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid.as_raw_nonzero().get() == self.pid && self.code.is_none() {
                self.code = Some(exit_code(status));
                self.stdin = None;
                self.input.clear();
                self.written = 0;
                power::end_all_processes();
            }
        }
    }
}

/// The code as a shell gives it: the program's own, or 128 + the signal that ended it.
fn exit_code(status: WaitStatus) -> i32 {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(255)
}
