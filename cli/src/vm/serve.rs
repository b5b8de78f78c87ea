//! `carve vm serve`: a machine that is described, started and watched over its control socket.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use signal_hook::consts::signal::{SIGINT, SIGTERM};
use vmm::api::{self, Begin, Description, Options, Served};

use super::event_lines::EventLines;
use crate::engine_flag::EngineFlag;
use crate::exit::Exit;

const EXAMPLES: &str = "\
Examples:
  carve vm serve --api-sock /tmp/vm.sock
  carve vm serve --api-sock /tmp/vm.sock --config vm.json
  curl --unix-socket /tmp/vm.sock -X PUT http://localhost/boot-source -d '{\"kernel_image_path\": \"vmlinux\"}'
  curl --unix-socket /tmp/vm.sock -X PUT http://localhost/actions -d '{\"action_type\": \"InstanceStart\"}'

The paths and bodies are those of Firecracker's API; what is not there answers 400 and says so. With --config, a file
of the form of Firecracker's --config-file, the machine starts at once. The serial console, if the kernel is told of one
by console=ttyS0, is on standard input and output. Exit status: 0 when the guest has ended, 125 with a message when it
dies or cannot be started.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The control socket, which is made
    #[arg(long, value_name = "PATH")]
    api_sock: PathBuf,
    /// A machine to start at once, as JSON
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The machine's name
    #[arg(long, value_name = "TEXT", default_value = "anonymous-instance")]
    id: String,
    #[command(flatten)]
    engine: EngineFlag,
    /// Append a JSON line to this file for each step of the boot
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let begin = match &args.config {
        None => Begin::Empty,
        Some(path) => Begin::Start(Box::new(read_config(path)?)),
    };
    let events = Arc::new(EventLines::open(args.events.as_deref())?);
    let socket = Socket::bind(&args.api_sock)?;
    let options = Options { id: args.id, engine: args.engine.engine(), ..Options::default() };
    let interrupted = interrupts()?;
    match api::serve(&socket.listener, begin, options, events, interrupted.as_fd())? {
        Served::Guest(_) | Served::Nothing => Ok(Exit::Success),
    }
}

/// Reads a machine from a file of the form of Firecracker's `--config-file`.
pub(super) fn read_config(path: &Path) -> anyhow::Result<Description> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the machine {}", path.display()))?;
    Description::parse(&text).with_context(|| format!("cannot understand the machine {}", path.display()))
}

/// A descriptor that becomes readable when somebody wants this process to end.
fn interrupts() -> anyhow::Result<UnixStream> {
    let (interrupted, handler) = UnixStream::pair().context("cannot make a pipe for signals")?;
    for signal in [SIGINT, SIGTERM] {
        let handler = handler.try_clone().context("cannot make a pipe for signals")?;
        signal_hook::low_level::pipe::register(signal, handler).context("cannot catch Ctrl-C")?;
    }
    Ok(interrupted)
}

/// A control socket, which goes when this does.
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens at `path`. What a process that is gone has left there is replaced.
    ///
    /// # Errors
    /// There is something else, or it cannot be made.
    pub(super) fn bind(path: &Path) -> anyhow::Result<Self> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path) => {
                std::fs::remove_file(path).and_then(|()| UnixListener::bind(path))
            }
            result => result,
        };
        let listener = listener.with_context(|| {
            format!("cannot make the control socket {}; give another --api-sock", path.display())
        })?;
        Ok(Self { listener, path: path.to_owned() })
    }
}

fn is_left_over(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Whoever has removed it already has done no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_nobody_serves_is_replaced_and_one_that_is_served_stays() {
        let dir = std::env::temp_dir().join(format!("carve-serve-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("api");
        drop(UnixListener::bind(&path).unwrap());
        let socket = Socket::bind(&path).unwrap();
        let error = Socket::bind(&path).err().unwrap().to_string();
        assert!(error.contains("give another --api-sock"), "{error}");
        drop(socket);
        assert!(!path.exists());
        std::fs::remove_dir(dir).unwrap();
    }
}
