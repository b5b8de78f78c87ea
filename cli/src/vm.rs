//! `carve vm …`: virtual machines without images.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use clap::Subcommand;
use engine::Events;
use serde_json::{Map, json};
use vmm::{BootEvent, DiskConfig, EventSink, Milestone, SerialConfig, Vm, VmConfig, VmExit};

use crate::engine_flag::EngineFlag;
use crate::exit::Exit;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  carve vm boot --kernel vmlinux --initrd initramfs.cpio")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  carve vm boot --kernel vmlinux --initrd initramfs.cpio
  carve vm boot --kernel bzImage --disk root.ext4 --disk data.img,ro --cmdline 'root=/dev/vda rw' --memory 512

The guest's serial console is on standard input and output. Exit status: 0 when the guest powers off or
resets, 125 with a message when it dies or cannot be started.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Boot a kernel
    #[command(after_help = EXAMPLES)]
    Boot(BootArgs),
}

#[derive(Debug, clap::Args)]
struct BootArgs {
    /// The kernel: an ELF vmlinux, a bzImage, or an ELF file with a PVH note
    #[arg(long, value_name = "FILE")]
    kernel: PathBuf,
    /// Initial RAM disk
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// A disk, /dev/vda and so on in this order
    #[arg(long, value_name = "FILE[,ro]")]
    disk: Vec<Disk>,
    /// Added to the kernel's command line
    #[arg(long, value_name = "STRING", default_value = "", allow_hyphen_values = true)]
    cmdline: String,
    /// RAM in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    memory: u32,
    #[command(flatten)]
    engine: EngineFlag,
    /// Append a JSON line to this file for each step of the boot
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

#[derive(Debug, Clone)]
struct Disk {
    path: PathBuf,
    read_only: bool,
}

impl FromStr for Disk {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (path, read_only) = text.strip_suffix(",ro").map_or((text, false), |path| (path, true));
        Ok(Self { path: path.into(), read_only })
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let Verb::Boot(args) = args.verb;
    let sink = Sink::open(args.events.as_deref())?;
    let mut config = VmConfig::new(args.kernel, args.memory);
    config.engine = args.engine.engine();
    config.initrd = args.initrd;
    config.cmdline = args.cmdline;
    config.disks = args
        .disk
        .into_iter()
        .map(|disk| DiskConfig { path: disk.path, read_only: disk.read_only, id: String::new() })
        .collect();
    config.serial = SerialConfig::Stdio;
    let running = Vm::build(&config, Arc::new(sink)).and_then(Vm::start).context("cannot start the guest")?;
    match running.wait().context("the guest died")? {
        VmExit::Reset | VmExit::PoweredOff | VmExit::Stopped => Ok(Exit::Success),
    }
}

/// Boot events as JSON lines, in the form that `carve run --events` has.
struct Sink(Mutex<Events>);

impl Sink {
    fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let mut events = Events::open(path)?;
        if path.is_some() {
            events.record("cli.start");
        }
        Ok(Self(Mutex::new(events)))
    }
}

impl EventSink for Sink {
    fn record(&self, event: BootEvent) {
        let name = json!(event.milestone);
        let (name, fields) = match (event.milestone, name.as_str()) {
            (Milestone::GuestMark(value), _) => {
                ("guest_mark", Map::from_iter([("value".to_owned(), json!(value))]))
            }
            (_, Some(name)) => (name, Map::new()),
            (_, None) => return,
        };
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.record_at(&format!("vmm.{name}"), event.at_ns, fields);
    }
}
