//! Starting a VMM in a process of its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use super::VERB;
use super::channel::Channel;
use super::descriptors;
use super::handle::{ProcessError, VmProcess};
use super::message::{Build, Machine, ToVm};
use super::paths;
use crate::api::{Description, Restore};
use crate::config::{Engine, TapSource, VmConfig};
use crate::console::terminal::RawTerminal;
use crate::events::EventSink;
use crate::jail::{self, JailConfig};
use crate::snapshot::Snapshot;

/// The environment that a VMM needs: what it logs.
const ENVIRONMENT: [&str; 2] = ["CARVE_LOG", "RUST_BACKTRACE"];

/// How to start a VMM.
#[derive(Default)]
pub struct ProcessOptions<'a> {
    /// The jail that the VMM goes into, if any.
    pub jail: Option<JailConfig>,
    /// Called with the process's id before the process does anything: puts it into its cgroup, for example.
    pub adopt: Option<&'a mut dyn FnMut(u32) -> io::Result<()>>,
    /// The machine's control socket, if it is to have one.
    pub control: Option<Control<'a>>,
    /// Where a debugger connects, without whom the guest does not go on, if there is to be one. Not of a machine that
    /// clients describe.
    pub debugger: Option<&'a UnixListener>,
}

/// A control socket, which the VMM serves.
#[derive(Debug, Clone, Copy)]
pub struct Control<'a> {
    /// Where clients connect.
    pub listener: &'a UnixListener,
    /// The machine's name.
    pub id: &'a str,
}

/// A machine that clients of its control socket describe. In a jail, files are looked up in the jail's root.
#[derive(Debug, Default)]
pub struct Described {
    /// What runs its kernel.
    pub engine: Engine,
    /// What is known of it already; then it is started at once.
    pub description: Option<Description>,
    /// Names of the taps that it can have. In a jail it can have no other.
    pub taps: Vec<String>,
    /// Without a jail: its threads make only the system calls that they need ([`crate::seccomp`]).
    pub confine: bool,
}

/// What the parent keeps or gives of a machine.
#[derive(Default)]
struct Parts {
    uses_terminal: bool,
    terminal: Option<RawTerminal>,
    taps: Vec<OwnedFd>,
    symbols: Option<PathBuf>,
    sockets: Vec<PathBuf>,
}

impl Parts {
    /// Those of a machine whose configuration is known, with paths that hold in the VMM's process.
    fn of(config: &mut VmConfig) -> io::Result<Self> {
        paths::make_absolute(config)?;
        Ok(Self {
            uses_terminal: config.uses_terminal(),
            terminal: config.uses_terminal().then(RawTerminal::enter),
            taps: descriptors::taps(config)?,
            // The VMM may no longer be able to read it.
            symbols: config.symbols.take(),
            sockets: paths::sockets(config),
        })
    }
}

impl VmProcess {
    /// Starts this binary again as the VMM of `config` and returns when the guest runs. Standard output and error are
    /// the VMM's, too; standard input is if its serial port leads there.
    ///
    /// The VMM dies with the calling thread.
    ///
    /// # Errors
    /// The process cannot be started, or the machine cannot be built; nothing is left behind.
    pub fn spawn(
        config: &VmConfig,
        options: ProcessOptions<'_>,
        events: Arc<dyn EventSink>,
    ) -> Result<Self, ProcessError> {
        let mut config = config.clone();
        let parts = Parts::of(&mut config).map_err(ProcessError::Start)?;
        Self::start(Machine::Boot(Box::new(config)), parts, options, events)
    }

    /// The same with the machine of a snapshot, whose guest goes on if `resume` says so.
    ///
    /// # Errors
    /// As for [`Self::spawn`], or the snapshot cannot be used.
    pub fn restore(
        from: Restore,
        resume: bool,
        options: ProcessOptions<'_>,
        events: Arc<dyn EventSink>,
    ) -> Result<Self, ProcessError> {
        let absolute = |path: &Path| std::path::absolute(path).map_err(ProcessError::Start);
        let (state, memory) = (absolute(&from.state)?, absolute(&from.memory)?);
        let mut config = Snapshot::read(&state)?.config;
        from.overrides.apply(&mut config).map_err(crate::SnapshotError::from)?;
        let parts = Parts::of(&mut config).map_err(ProcessError::Start)?;
        let machine = Machine::Restore { config: Box::new(config), state, memory, resume };
        Self::start(machine, parts, options, events)
    }

    /// The same with a machine that clients of the control socket describe and start; returns when they can. Standard
    /// input is the VMM's, too.
    ///
    /// # Errors
    /// As for [`Self::spawn`].
    pub fn serve(
        described: Described,
        options: ProcessOptions<'_>,
        events: Arc<dyn EventSink>,
    ) -> Result<Self, ProcessError> {
        let Described { engine, description, taps, confine } = described;
        let open = |name: &String| descriptors::tap(&TapSource::Name(name.clone()));
        let parts = Parts {
            uses_terminal: true,
            terminal: Some(RawTerminal::keep()),
            taps: taps.iter().map(open).collect::<Result<_, _>>().map_err(ProcessError::Start)?,
            ..Parts::default()
        };
        let machine = Machine::Described { engine, description: description.map(Box::new), taps, confine };
        Self::start(machine, parts, options, events)
    }

    fn start(
        machine: Machine,
        parts: Parts,
        options: ProcessOptions<'_>,
        events: Arc<dyn EventSink>,
    ) -> Result<Self, ProcessError> {
        let (channel, theirs) = Channel::pair().map_err(ProcessError::Start)?;
        let child = execute(theirs.into(), options.jail.is_some()).map_err(ProcessError::Start)?;
        // From here on, dropping it takes the process along.
        let mut process = Self::new(child, channel, events, parts.terminal);
        process.symbols = parts.symbols;
        if let Some(adopt) = options.adopt {
            adopt(process.pid()).map_err(ProcessError::Start)?;
        }
        let null = std::fs::File::open("/dev/null").map_err(ProcessError::Start)?;
        let stdin = if parts.uses_terminal { rustix::stdio::stdin() } else { null.as_fd() };
        let control = options.control.map(|control| control.listener.as_fd());
        let debugger = options.debugger.map(AsFd::as_fd);
        let taps = parts.taps.iter().map(AsFd::as_fd);
        let all: Vec<BorrowedFd<'_>> =
            [stdin].into_iter().chain(control).chain(debugger).chain(taps).collect();
        let control = options.control.map(|control| control.id.to_owned());
        let debugger = options.debugger.is_some();
        process
            .send(&ToVm::Build(Box::new(Build { machine, jail: options.jail, control, debugger })), &all)?;
        process.wait_until_running()?;
        process.sockets = parts.sockets;
        Ok(process)
    }
}

fn execute(channel: Stdio, jailed: bool) -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("carve").arg(VERB).stdin(channel).env_clear();
    command.envs(ENVIRONMENT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    if jailed { jail::execute(&mut command) } else { command.spawn() }
}
