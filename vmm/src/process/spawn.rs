//! Starting a VMM in a process of its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use super::VERB;
use super::channel::Channel;
use super::descriptors;
use super::handle::{ProcessError, VmProcess};
use super::message::{Build, ToVm};
use super::paths;
use crate::config::{ConsoleConfig, VmConfig};
use crate::console::terminal::RawTerminal;
use crate::events::EventSink;
use crate::jail::{self, JailConfig};

/// The environment that a VMM needs: what it logs.
const ENVIRONMENT: [&str; 2] = ["CARVE_LOG", "RUST_BACKTRACE"];

/// How to start a VMM.
#[derive(Default)]
pub struct ProcessOptions<'a> {
    /// The jail that the VMM goes into, if any.
    pub jail: Option<JailConfig>,
    /// Called with the process's id before the process does anything: puts it into its cgroup, for example.
    pub adopt: Option<&'a mut dyn FnMut(u32) -> io::Result<()>>,
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
        let symbols = config.symbols.take();
        paths::make_absolute(&mut config).map_err(ProcessError::Start)?;
        let sockets = sockets(&config);
        let (channel, theirs) = Channel::pair().map_err(ProcessError::Start)?;
        let child = execute(theirs.into(), options.jail.is_some()).map_err(ProcessError::Start)?;
        // From here on, dropping it takes the process along.
        let terminal = config.uses_terminal().then(RawTerminal::enter);
        let mut process = Self::new(child, channel, events, terminal);
        process.symbols = symbols;
        if let Some(adopt) = options.adopt {
            adopt(process.pid()).map_err(ProcessError::Start)?;
        }
        process.send_config(config, options.jail)?;
        process.wait_until_running()?;
        process.sockets = sockets;
        Ok(process)
    }

    fn send_config(&self, mut config: VmConfig, jail: Option<JailConfig>) -> Result<(), ProcessError> {
        let descriptors = descriptors::collect(&mut config).map_err(ProcessError::Start)?;
        let null;
        let stdin = if config.uses_terminal() {
            rustix::stdio::stdin()
        } else {
            null = std::fs::File::open("/dev/null").map_err(ProcessError::Start)?;
            null.as_fd()
        };
        let all: Vec<BorrowedFd<'_>> =
            [stdin].into_iter().chain(descriptors.iter().map(AsFd::as_fd)).collect();
        self.send(&ToVm::Build(Box::new(Build { config, jail })), &all)
    }
}

/// Where the VMM will listen.
fn sockets(config: &VmConfig) -> Vec<PathBuf> {
    let console = match &config.console {
        Some(ConsoleConfig::Socket(path)) => Some(path.clone()),
        _ => None,
    };
    config.vsock.iter().map(|vsock| vsock.uds_path.clone()).chain(console).collect()
}

fn execute(channel: Stdio, jailed: bool) -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("carve").arg(VERB).stdin(channel).env_clear();
    command.envs(ENVIRONMENT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    if jailed { jail::execute(&mut command) } else { command.spawn() }
}
