//! From a message to a guest that runs, or a control socket that is served, in its jail.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::thread::UnshareFlags;

use super::descriptors;
use super::message::{Build, Machine};
use super::paths;
use crate::api::{Description, Files, LogControl, Machines, Options, Server, StartEvents, Walls};
use crate::config::{Engine, VmConfig};
use crate::events::EventSink;
use crate::jail::{Jail, JailConfig};
use crate::machine::{Opened, RunningVm, Vm};
use crate::seccomp::{self, ThreadKind};
use crate::snapshot::Snapshot;
use crate::sys::namespaces::unshare;

/// What this process does from now on.
pub(super) enum Work {
    /// Waits for a guest.
    Guest(Box<RunningVm>),
    /// Serves the control socket of a machine that the parent knows.
    Api(Box<Server>),
    /// Serves that of a machine that clients describe.
    Described(Box<Server>),
}

/// The control socket, and where logs go, which its clients may change.
struct Control {
    listener: UnixListener,
    id: String,
    logs: Box<dyn LogControl>,
}

/// A machine that the parent knows.
struct Known {
    config: VmConfig,
    taps: Vec<OwnedFd>,
    /// State and memory that it goes on from.
    snapshot: Option<(PathBuf, PathBuf)>,
    resume: bool,
    /// Where a debugger connects.
    debugger: Option<UnixListener>,
}

/// A machine that clients describe.
struct Described {
    engine: Engine,
    description: Option<Description>,
    taps: Vec<(String, OwnedFd)>,
    walls: Walls,
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn missing(what: &str) -> String {
    format!("no {what} came along with the machine's description")
}

/// Makes what the parent wants, with the descriptors that came along, or says why not.
pub(super) fn build(
    what: Build,
    descriptors: Vec<OwnedFd>,
    events: Arc<dyn EventSink>,
    logs: Box<dyn LogControl>,
) -> Result<Work, String> {
    let Build { machine, jail, control, debugger } = what;
    let mut descriptors = descriptors.into_iter();
    let stdin = descriptors.next().ok_or_else(|| missing("standard input"))?;
    rustix::stdio::dup2_stdin(stdin).map_err(text)?;
    let control = match control {
        Some(id) => {
            let listener = descriptors.next().ok_or_else(|| missing("control socket"))?.into();
            Some(Control { listener, id, logs })
        }
        None => None,
    };
    let debugger = match debugger {
        true => Some(descriptors.next().ok_or_else(|| missing("debugger's socket"))?.into()),
        false => None,
    };
    let taps = descriptors.collect();
    match machine {
        Machine::Boot(config) => {
            let known = Known { config: *config, taps, snapshot: None, resume: true, debugger };
            start(known, jail, control, events)
        }
        Machine::Restore { config, state, memory, resume } => {
            let snapshot = Some((state, memory));
            let known = Known { config: *config, taps, snapshot, resume, debugger };
            start(known, jail, control, events)
        }
        Machine::Described { engine, description, taps: names, confine } => {
            let control = control.ok_or_else(|| missing("control socket"))?;
            let walls = match &jail {
                Some(_) => Walls::Jail,
                None if confine => Walls::Threads,
                None => Walls::None,
            };
            let taps = names.into_iter().zip(taps).collect();
            let description = description.map(|description| *description);
            serve(Described { engine, description, taps, walls }, jail, control, events)
        }
    }
}

/// Builds a machine of the host's files, goes into the jail with it and starts it.
fn start(
    known: Known,
    jail: Option<JailConfig>,
    control: Option<Control>,
    events: Arc<dyn EventSink>,
) -> Result<Work, String> {
    let files = files(jail.as_ref());
    let mut config = known.config.clone();
    descriptors::give(&mut config, &known.taps);
    // Clients of a control socket count on the directory that it was started in.
    if jail.is_some() || control.is_none() {
        paths::enter_socket_directory(&mut config).map_err(text)?;
    }
    let root = jail.as_ref().and_then(|jail| jail.root.clone());
    let sockets = config.vsock.is_some().then_some(Path::new("."));
    let jail = jail.map(Jail::prepare).transpose().map_err(text)?;
    let start = StartEvents::before(events);
    let mut vm = match known.snapshot {
        None => Vm::build(&config, start.clone()).map_err(text)?,
        Some((state, memory)) => {
            let mut snapshot = Snapshot::read(&state).map_err(text)?;
            snapshot.config = config;
            Vm::restore(snapshot, &memory, start.clone()).map_err(text)?
        }
    };
    // The machine has duplicates of those that it wants.
    drop(known.taps);
    vm.describe_as(known.config, root);
    if let Some(listener) = known.debugger {
        vm.debug_at(listener);
    }
    let is_jailed = jail.is_some();
    if let Some(jail) = jail {
        jail.enter(sockets).map_err(text)?;
        seccomp::report_violations().map_err(text)?;
        vm.confine_threads();
    }
    let running = vm.start_paused().map_err(text)?;
    if files == Files::InRoot {
        // Devices find sockets in their directory, clients find files in the root.
        unshare(UnshareFlags::FS).map_err(text)?;
        rustix::process::chdir("/").map_err(text)?;
    }
    if is_jailed {
        let kind = match (&control, files) {
            (None, _) => ThreadKind::Main,
            (Some(_), Files::None) => ThreadKind::Api,
            (Some(_), _) => ThreadKind::ApiWithFiles,
        };
        seccomp::install(kind).map_err(text)?;
    }
    if known.resume {
        running.resume();
    }
    let Some(Control { listener, id, logs }) = control else { return Ok(Work::Guest(Box::new(running))) };
    let options = Options { id, logs, files, ..Options::default() };
    let mut server = Server::new(listener, options, None, start);
    server.adopt(running);
    Ok(Work::Api(Box::new(server)))
}

/// Goes into the jail and makes a machine there when clients have described it.
fn serve(
    described: Described,
    jail: Option<JailConfig>,
    control: Control,
    events: Arc<dyn EventSink>,
) -> Result<Work, String> {
    let Described { engine, description, taps, walls } = described;
    let Control { listener, id, logs } = control;
    let files = files(jail.as_ref());
    let jail = jail.map(Jail::prepare).transpose().map_err(text)?;
    let opened = Opened::now().map_err(text)?;
    if let Some(jail) = jail {
        jail.enter(None).map_err(text)?;
    }
    if walls != Walls::None {
        seccomp::report_violations().map_err(text)?;
    }
    let options = Options { id, engine: opened.engine(engine), logs, files };
    let start = StartEvents::before(events);
    let machines = Machines { events: start.clone(), opened, taps, walls };
    let mut server = Server::new(listener, options, Some(machines), start);
    if let Some(description) = description {
        server.start(description).map_err(text)?;
    }
    Ok(Work::Described(Box::new(server)))
}

/// Which files clients may name.
fn files(jail: Option<&JailConfig>) -> Files {
    match jail {
        None => Files::All,
        Some(JailConfig { root: Some(_), .. }) => Files::InRoot,
        Some(JailConfig { root: None, .. }) => Files::None,
    }
}
