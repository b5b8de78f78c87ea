//! The container model: the operating system carved, by the OCI runtime in `container`.

mod bundle;

use std::{
    collections::VecDeque,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use agent::protocol::{CHUNK, FromAgent, ToAgent};
use container::{Bundle, Container, CreateError, CreateOptions, ExitStatus, StartError};
use rustix::{
    event::PollFlags,
    pipe::{PipeFlags, pipe_with},
    process::Signal,
};

use super::{Running, Start};
use crate::{
    error::{EngineError, Result},
    events::Events,
    network::{self, Place},
    rootfs,
};

/// Mounts, creates, connects and starts, in this order.
pub(super) fn start(start: Start<'_>) -> Result<Box<dyn Running>> {
    let Start { engine, instance, image, events } = start;
    let place = network::reserve(engine, instance)?;
    rootfs::enter_own_mount_namespace()?;
    let mounted = Mounted { dir: instance.dir().to_owned(), layers: image.layers.len() };
    let layers: Vec<_> = image.layers.iter().map(|l| l.erofs.clone()).collect();
    let rootfs = rootfs::mount_rootfs(instance.dir(), &layers, instance.spec.auto_remove)?;
    events.record("rootfs.ready");
    let bundle = bundle::write(instance, image, &rootfs, place.as_ref())?;

    let (stdio, streams) = streams(instance.spec.interactive)?;
    let options = CreateOptions::new(stdio, instance.cgroup().into());
    let bundle = Bundle::load(&bundle).map_err(|error| EngineError::Invalid(error.to_string()))?;
    let created = container::create(&bundle, &instance.id, options);
    let container = created.map_err(|error| match error {
        CreateError::Program(error) => not_started(&error),
        error => EngineError::Invalid(error.to_string()),
    })?;
    for warning in container.warnings() {
        tracing::warn!("{warning}");
    }
    events.record("init.created");
    let mut running = Containment { container, streams, started: false, killed_by: None, mounted, place };
    match running.connect_and_start(engine, events) {
        Ok(()) => Ok(Box::new(running)),
        Err(error) => {
            Box::new(running).finish()?;
            Err(error)
        }
    }
}

/// The root file system's mounts; unmounted when dropped.
struct Mounted {
    dir: PathBuf,
    layers: usize,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = rootfs::unmount_rootfs(&self.dir, self.layers) {
            // They go with this process.
            tracing::warn!(%error, "the root file system stays mounted until the monitor ends");
        }
    }
}

fn not_started(error: &StartError) -> EngineError {
    EngineError::Start { exit_code: error.exit_code(), message: error.to_string() }
}

/// Our ends of the app's standard streams; an output that ended is gone.
struct Streams {
    /// A pipe: `sendfile` from a socket to a pipe, which `cat` uses, would lock the pipe that the monitor reads for as long
    /// as it waits for input from the monitor.
    stdin: Option<OwnedFd>,
    unsent: VecDeque<u8>,
    /// Standard input ends when what is unsent was sent.
    closing: bool,
    outputs: [Option<OwnedFd>; 2],
}

/// The app's ends and ours.
fn streams(interactive: bool) -> Result<([OwnedFd; 3], Streams)> {
    let make = || -> io::Result<_> {
        let (stdin, ours) = if interactive {
            let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&ours, true)?;
            (theirs, Some(ours))
        } else {
            (std::fs::File::open("/dev/null")?.into(), None)
        };
        let (out, their_out) = pipe_with(PipeFlags::CLOEXEC)?;
        let (err, their_err) = pipe_with(PipeFlags::CLOEXEC)?;
        // Only our ends: an app may not expect its output to refuse.
        for fd in [&out, &err] {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        let ours =
            Streams { stdin: ours, unsent: VecDeque::new(), closing: false, outputs: [Some(out), Some(err)] };
        Ok(([stdin, their_out, their_err], ours))
    };
    make().map_err(EngineError::file("make", "the app's standard streams"))
}

/// A container that runs.
struct Containment {
    container: Container,
    streams: Streams,
    /// The app's start was reported.
    started: bool,
    /// The signal whose default action we took, because the kernel spares an init that does not handle it.
    killed_by: Option<i32>,
    mounted: Mounted,
    place: Option<Place>,
}

impl Containment {
    fn connect_and_start(&mut self, engine: &crate::Engine, events: &mut Events) -> Result<()> {
        if let Some(place) = &self.place {
            network::connect_container(engine, place, self.container.pid().cast_unsigned())?;
        }
        events.record("network.ready");
        let started = self.container.start();
        started.map_err(|error| not_started(&error))
    }

    /// Passes a signal on. The kernel drops one that the init of a pid namespace has no handler for; its default
    /// action is taken instead, as it would be for any other process, and in a virtual machine.
    fn signal(&mut self, number: i32) -> Result<()> {
        let Some(signal) = Signal::from_named_raw(number) else { return Ok(()) };
        if ends_by_default(signal) && !handles(self.container.pid(), number) {
            self.killed_by = Some(number);
            return self.kill(Signal::KILL);
        }
        self.kill(signal)
    }

    fn kill(&mut self, signal: Signal) -> Result<()> {
        match self.container.kill(signal.as_raw()) {
            // It has ended already.
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            result => result.map_err(|e| EngineError::Invalid(format!("cannot signal the app: {e}"))),
        }
    }

    /// Reads one output as far as it goes.
    fn read_output(&mut self, which: usize, messages: &mut Vec<FromAgent>) -> Result<()> {
        let Some(fd) = &self.streams.outputs[which] else { return Ok(()) };
        let mut bytes = vec![0; CHUNK];
        match rustix::io::read(fd, &mut bytes) {
            Ok(0) => self.streams.outputs[which] = None,
            Ok(n) => {
                bytes.truncate(n);
                messages.push(if which == 0 { FromAgent::Stdout(bytes) } else { FromAgent::Stderr(bytes) });
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(e) => return Err(EngineError::file("read", "the app's output")(e.into())),
        }
        Ok(())
    }
}

impl Running for Containment {
    fn interests(&self, hold_output: bool) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let mut interests = Vec::new();
        let outputs = self.streams.outputs.iter().flatten();
        if !hold_output {
            interests.extend(outputs.map(|fd| (fd.as_fd(), PollFlags::IN)));
        }
        // While output is left to read, the end is not news yet.
        if self.streams.outputs.iter().all(Option::is_none) {
            interests.push((self.container.pidfd(), PollFlags::IN));
        }
        if let (Some(stdin), false) = (&self.streams.stdin, self.streams.unsent.is_empty()) {
            interests.push((stdin.as_fd(), PollFlags::OUT));
        }
        interests
    }

    fn advance(&mut self, hold_output: bool, _events: &mut Events) -> Result<Vec<FromAgent>> {
        let mut messages = Vec::new();
        if !std::mem::replace(&mut self.started, true) {
            messages.push(FromAgent::Started(1));
        }
        self.streams.send_input();
        if !hold_output {
            self.read_output(0, &mut messages)?;
            self.read_output(1, &mut messages)?;
        }
        if self.streams.outputs.iter().all(Option::is_none) {
            let status = self.container.try_wait();
            if let Some(status) =
                status.map_err(|e| EngineError::Invalid(format!("cannot wait for the app: {e}")))?
            {
                messages.push(FromAgent::Exited(match (status, self.killed_by) {
                    (ExitStatus::Signaled(9), Some(signal)) => 128 + signal,
                    (status, _) => status.code(),
                }));
            }
        }
        Ok(messages)
    }

    fn tell(&mut self, message: ToAgent) -> Result<()> {
        match message {
            ToAgent::Stdin(bytes) => {
                self.streams.unsent.extend(bytes);
                self.streams.send_input();
            }
            ToAgent::CloseStdin => {
                self.streams.closing = true;
                self.streams.send_input();
            }
            ToAgent::Signal(number) => self.signal(number)?,
            ToAgent::Shutdown => self.kill(Signal::KILL)?,
            // A container has no guest to ask, and was started long ago.
            ToAgent::Stats | ToAgent::Start(_) => {}
        }
        Ok(())
    }

    fn init_pid(&self) -> Option<u32> {
        Some(self.container.pid().cast_unsigned())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let deleted = self.container.delete().map_err(|e| EngineError::Invalid(e.to_string()));
        drop(self.mounted);
        deleted
    }
}

impl Streams {
    /// Sends input as far as the app takes it. An app that closed its input gets none.
    fn send_input(&mut self) {
        let Some(stdin) = &mut self.stdin else {
            self.unsent.clear();
            return;
        };
        while !self.unsent.is_empty() {
            match rustix::io::write(&*stdin, self.unsent.as_slices().0) {
                Ok(n) => drop(self.unsent.drain(..n)),
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => {
                    self.stdin = None;
                    self.unsent.clear();
                    return;
                }
            }
        }
        if self.closing {
            self.stdin = None;
        }
    }
}

/// Whether a process has a handler for a signal, or ignores it by its own choice (`SigCgt` and `SigIgn` of
/// `/proc/PID/status`).
fn handles(pid: i32, signal: i32) -> bool {
    let mut status = String::new();
    let path = Path::new("/proc").join(pid.to_string()).join("status");
    if std::fs::File::open(path).and_then(|mut f| f.read_to_string(&mut status)).is_err() {
        return false;
    }
    ["SigCgt:", "SigIgn:"].iter().any(|field| {
        let mask = status.lines().find_map(|l| l.strip_prefix(field)).unwrap_or_default();
        u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask >> (signal - 1) & 1 == 1)
    })
}

/// Whether the default action of a signal is to end the process (`man 7 signal`).
fn ends_by_default(signal: Signal) -> bool {
    !matches!(
        signal,
        Signal::CHILD
            | Signal::CONT
            | Signal::URG
            | Signal::WINCH
            | Signal::STOP
            | Signal::TSTP
            | Signal::TTIN
            | Signal::TTOU
    )
}
