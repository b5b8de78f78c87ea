//! `carve run IMAGE [COMMAND…]`: runs an image in the foreground, by either model.

use std::{
    io::{IsTerminal, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use agent::protocol::{CHUNK, FromAgent, ToAgent, send};
use anyhow::Context;
use engine::{Attached, Engine, EngineError, Events, Model, NetworkMode, PublishedPort, RunSpec};
use indicatif::ProgressBar;
use signal_hook::{consts::signal, iterator::Signals};

use crate::{exit::Exit, format, guest, progress};

const EXAMPLES: &str = "\
Examples:
  carve run demo                             run the image's own command
  carve run -p 8080:80 --name web demo       reachable at http://localhost:8080
  carve run --vm --memory 128m demo          the same image with a kernel of its own
  carve run --rm demo sh -c 'echo hello'     another command, nothing kept

Exit status: the app's own, 128 + N when signal N ended it, 125 when carve failed, 126 when the
command cannot be executed, 127 when it is not in the image.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Run as a virtual machine instead of a container
    #[arg(long)]
    vm: bool,
    /// Name the instance [default: a made-up name]
    #[arg(long)]
    name: Option<String>,
    /// Remove the instance when it ends
    #[arg(long)]
    rm: bool,
    /// Pass standard input to the app
    #[arg(short, long)]
    interactive: bool,
    /// Publish a port of the instance on the host
    #[arg(short, long, value_name = "[ADDRESS:]HOST_PORT:PORT[/tcp|/udp]")]
    publish: Vec<PublishedPort>,
    /// Set an environment variable; NAME alone passes on its value
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Memory: a container's limit, a virtual machine's RAM [default: no limit; 256m]
    #[arg(short, long, value_name = "SIZE", value_parser = format::parse_size)]
    memory: Option<u64>,
    /// CPU time it may use per time, as in 0.5 or 2: a quota in both models
    #[arg(long, value_name = "NUMBER", value_parser = format::parse_cpus)]
    cpus: Option<u32>,
    /// What it is connected to
    #[arg(long, value_name = "bridge|none", default_value = "bridge", value_parser = parse_network)]
    network: NetworkMode,
    /// Replace the image's entrypoint
    #[arg(long)]
    entrypoint: Option<String>,
    /// Run as this user: NAME, UID, NAME:GROUP or UID:GID
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory of the app
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Append a JSON line to this file for each step of the start
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    #[command(flatten)]
    guest: guest::Args,
    /// The image
    image: String,
    /// The command to run instead of the image's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

fn parse_network(text: &str) -> Result<NetworkMode, String> {
    match text {
        "bridge" => Ok(NetworkMode::Bridge),
        "none" => Ok(NetworkMode::None),
        _ => Err("bridge and none are the networks there are".to_owned()),
    }
}

pub(crate) fn run(root: &Path, args: Args) -> anyhow::Result<Exit> {
    let events = args.events.map(std::path::absolute).transpose().context("cannot find the events file")?;
    Events::open(events.as_deref())?.record("cli.start");
    let model = if args.vm { Model::Vm } else { Model::Container };
    let spec = RunSpec {
        image: args.image,
        model,
        name: args.name,
        command: args.command,
        entrypoint: args.entrypoint,
        env: args.env,
        user: args.user,
        workdir: args.workdir,
        ports: args.publish,
        network: args.network,
        memory: args.memory,
        cpus_milli: args.cpus,
        interactive: args.interactive,
        auto_remove: args.rm,
        events,
        guest: args.vm.then(|| args.guest.find()).transpose()?,
    };
    let interactive = spec.interactive;
    // Before anything is made: a Ctrl-C from here on is the app's.
    let signals = Signals::new([signal::SIGINT, signal::SIGTERM, signal::SIGHUP, signal::SIGQUIT])?;
    let attached = Engine::open(root)?.launch(spec)?;
    let spins = args.vm && std::io::stderr().is_terminal();
    follow(attached, interactive, signals, spins.then(|| progress::spinner("booting the guest")))
}

/// Streams until the instance has ended and cleaned up after itself.
fn follow(
    mut attached: Attached,
    interactive: bool,
    signals: Signals,
    mut booting: Option<ProgressBar>,
) -> anyhow::Result<Exit> {
    let name = attached.name().to_owned();
    let sender = Arc::new(Mutex::new(attached.sender()?));
    pass_on_signals(signals, Arc::clone(&sender));
    if interactive {
        pass_on_input(sender);
    }
    let mut end = None;
    while let Some(message) = attached.receive().context("the monitor speaks nonsense")? {
        // The first word of the app or its end: nobody waits for the guest any more.
        drop(booting.take());
        match message {
            FromAgent::Stdout(bytes) => write(std::io::stdout().lock(), &bytes)?,
            FromAgent::Stderr(bytes) => write(std::io::stderr().lock(), &bytes)?,
            FromAgent::Exited(code) => end = Some(Ok(Exit::Code(code))),
            FromAgent::Failed(failure) => {
                end =
                    Some(Err(EngineError::Start { exit_code: failure.exit_code, message: failure.message }));
            }
            FromAgent::Ready | FromAgent::Started(_) | FromAgent::Stats(_) => {}
        }
    }
    attached.wait()?;
    Ok(end.unwrap_or(Err(EngineError::MonitorDied(name)))?)
}

/// The app's output goes on to where ours goes. When that is closed, as by `| head -1`, the app need not know.
fn write(mut to: impl Write, bytes: &[u8]) -> anyhow::Result<()> {
    match to.write_all(bytes).and_then(|()| to.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(e).context("cannot write the app's output")
        }
        _ => Ok(()),
    }
}

/// Signals go to the app. Who presses Ctrl-C a second time wants it ended, whatever the app thinks of it.
fn pass_on_signals(mut signals: Signals, sender: Arc<Mutex<std::os::unix::net::UnixStream>>) {
    let asked = AtomicBool::new(false);
    std::thread::spawn(move || {
        for number in &mut signals {
            let again = number == signal::SIGINT && asked.swap(true, Ordering::Relaxed);
            let message = if again { ToAgent::Shutdown } else { ToAgent::Signal(number) };
            let Ok(mut sender) = sender.lock() else { return };
            if send(&mut *sender, &message).is_err() {
                return;
            }
        }
    });
}

fn pass_on_input(sender: Arc<Mutex<std::os::unix::net::UnixStream>>) {
    let mut input = std::io::stdin();
    if input.is_terminal() {
        tracing::debug!("standard input is a terminal; it stays in line mode");
    }
    std::thread::spawn(move || {
        let mut bytes = vec![0; CHUNK];
        loop {
            let message = match input.read(&mut bytes) {
                Ok(0) | Err(_) => ToAgent::CloseStdin,
                Ok(n) => ToAgent::Stdin(bytes[..n].to_vec()),
            };
            let at_end = message == ToAgent::CloseStdin;
            let Ok(mut sender) = sender.lock() else { return };
            if send(&mut *sender, &message).is_err() || at_end {
                return;
            }
        }
    });
}
