//! Starting a machine as a list of steps: from a kernel, or from a snapshot.
//!
//! ```text
//!   build:   map memory ─► open engine ─► load kernel ─► place devices ─► describe machine ─► create vCPUs ─┐
//!   restore: map a copy ─► open engine ────────────────► place devices ─► create vCPUs ─► restore devices ─┴─► Vm
//! ```

use std::fs::File;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::devices::{DeviceError, Devices};
use super::platform::{self, Platform, Start};
use super::running::Kept;
use super::settling::Settling;
use super::vcpus::Kickers;
use super::{Opened, Requests, RunningVm};
use crate::boot::{self, BootError, Cmdline, Consoles, Entry, Hardware, Kernel};
use crate::config::{ConfigError, SerialConfig, VmConfig};
use crate::cpu::exit::Machine;
use crate::cpu::{CpuEngine, CpuError};
use crate::events::{BootEvent, EventSink, Milestone};
use crate::kvm::KvmError;
use crate::memory::{self, GuestMemory, MemoryError};
use crate::seccomp::SeccompError;
use crate::snapshot::{Snapshot, SnapshotError, memory::DIFF_MARK_LEN, memory::Ram};
use crate::virtio::{EventLoop, PersistError};

/// Why a virtual machine could not be built. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The configuration is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// KVM is absent or refused.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// There is no memory for the guest.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Kernel, initrd or command line cannot be used.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A device cannot be set up.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A device cannot go on from the snapshot.
    #[error(transparent)]
    Persist(#[from] PersistError),
    /// Threads could not be started.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// This thread could not be confined.
    #[error(transparent)]
    Confine(#[from] SeccompError),
    /// A tap that cannot be reached from where this process is.
    #[error("this machine is in a jail, where there is no tap {0}; name it when it is started, by --tap {0}")]
    Tap(String),
}

/// A virtual machine that is ready for its next instruction.
pub struct Vm {
    pub(super) cpus: Vec<Box<dyn CpuEngine>>,
    pub(super) machine: Machine,
    pub(super) event_loop: EventLoop,
    pub(super) events: Arc<dyn EventSink>,
    pub(super) uses_terminal: bool,
    pub(super) settling: Settling,
    pub(super) kept: Kept,
    /// Whether each thread confines itself before it does anything.
    pub(super) confined: bool,
    /// Where debuggers connect, if they are to.
    pub(super) debugger: Option<UnixListener>,
}

impl Vm {
    /// Builds the machine that `config` describes.
    ///
    /// # Errors
    /// Says what cannot be had, and what to do about it.
    pub fn build(config: &VmConfig, events: Arc<dyn EventSink>) -> Result<Self, BuildError> {
        config.check()?;
        Self::build_with(&Opened::now()?, config, events)
    }

    /// The same, with what has been `opened` already.
    ///
    /// # Errors
    /// As for [`Self::build`].
    pub(crate) fn build_with(
        opened: &Opened,
        config: &VmConfig,
        events: Arc<dyn EventSink>,
    ) -> Result<Self, BuildError> {
        let reached = |milestone| events.record(BootEvent::now(milestone));
        config.check()?;
        reached(Milestone::ConfigParsed);
        let memory = memory::map_memory(config.memory_bytes(), config.memory_backing, &config.pmems)?;
        reached(Milestone::MemoryMapped);
        let mut platform = platform::open(config, &memory, opened)?;
        reached(Milestone::KvmOpened);
        let kernel = boot::load_kernel(&memory, config.memory_bytes(), &config.kernel)?;
        reached(Milestone::KernelLoaded);
        let requests = Arc::new(Requests::new(config.vcpus));
        let devices = Devices::place(config, &memory, &*platform, &requests, &events, None)?;
        reached(Milestone::DevicesPlaced);
        let entry = describe_machine(config, &memory, &kernel, &*platform, &devices)?;
        let cpus = platform.create_cpus(Start::Boot(entry), config.vcpus, config.profile)?;
        let ram = Ram::of(config.memory_backing);
        let (machine, event_loop, devices) = devices.into_running(Kickers::of(&cpus))?;
        let kept = Kept::new(opened, config.clone(), memory, ram, platform, devices)?;
        let settling = Settling::begin(Instant::now(), opened.code());
        Ok(Self::assemble(cpus, machine, event_loop, settling, kept, events))
    }

    /// Builds the machine of `snapshot`, whose memory is in the file `memory`. That file must stay as it is while the
    /// machine lives: its pages are the machine's until the machine writes them.
    ///
    /// # Errors
    /// Says what cannot be had, and what to do about it.
    pub fn restore(
        snapshot: Snapshot,
        memory: &Path,
        events: Arc<dyn EventSink>,
    ) -> Result<Self, BuildError> {
        snapshot.config.check()?;
        Self::restore_with(&Opened::now()?, snapshot, memory, events)
    }

    /// The same, with what has been `opened` already.
    ///
    /// # Errors
    /// As for [`Self::restore`].
    pub(crate) fn restore_with(
        opened: &Opened,
        snapshot: Snapshot,
        memory: &Path,
        events: Arc<dyn EventSink>,
    ) -> Result<Self, BuildError> {
        let reached = |milestone| events.record(BootEvent::now(milestone));
        let config = &snapshot.config;
        config.check()?;
        reached(Milestone::ConfigParsed);
        let file = open_memory(&snapshot, memory)?;
        let memory = memory::map_copy_of(&file, config.memory_bytes(), &config.pmems)?;
        reached(Milestone::MemoryMapped);
        let mut platform = platform::open(config, &memory, opened)?;
        reached(Milestone::KvmOpened);
        let requests = Arc::new(Requests::new(config.vcpus));
        let devices =
            Devices::place(config, &memory, &*platform, &requests, &events, snapshot.serial.as_ref())?;
        reached(Milestone::DevicesPlaced);
        let start = Start::Restore {
            platform: &snapshot.platform,
            cpus: &snapshot.cpus,
            elapsed_ns: snapshot.elapsed_ns(),
        };
        let cpus = platform.create_cpus(start, config.vcpus, config.profile)?;
        devices.restore(snapshot.devices)?;
        devices.renew_generation()?;
        let (machine, event_loop, devices) = devices.into_running(Kickers::of(&cpus))?;
        let kept = Kept::new(opened, snapshot.config, memory, Ram::Private(file), platform, devices)?;
        let settling = Settling::begin(Instant::now(), opened.code());
        Ok(Self::assemble(cpus, machine, event_loop, settling, kept, events))
    }

    fn assemble(
        cpus: Vec<Box<dyn CpuEngine>>,
        machine: Machine,
        event_loop: EventLoop,
        settling: Settling,
        kept: Kept,
        events: Arc<dyn EventSink>,
    ) -> Self {
        let uses_terminal = kept.config().uses_terminal();
        events.record(BootEvent::now(Milestone::VcpusReady));
        Self {
            cpus,
            machine,
            event_loop,
            events,
            uses_terminal,
            settling,
            kept,
            confined: false,
            debugger: None,
        }
    }

    /// Has snapshots and clients see `config`: in this process, what the machine has of the host can have other names. Those
    /// that clients give from now on are below `root`, if there is one.
    pub(crate) fn describe_as(&mut self, config: VmConfig, root: Option<PathBuf>) {
        self.kept.describe_as(config, root);
    }

    /// Has each of the machine's threads make only the system calls that it needs ([`crate::seccomp`]).
    pub fn confine_threads(&mut self) {
        self.confined = true;
    }

    /// Has a debugger, which connects to `listener`, say when the guest goes on: before its first instruction, and whenever
    /// it likes afterwards.
    pub fn debug_at(&mut self, listener: UnixListener) {
        self.debugger = Some(listener);
    }

    /// Starts the guest.
    ///
    /// # Errors
    /// The host gives no threads or descriptors.
    pub fn start(self) -> Result<RunningVm, BuildError> {
        RunningVm::start(self, false)
    }

    /// Starts the machine without letting the guest run: [`RunningVm::resume`] does.
    ///
    /// # Errors
    /// The host gives no threads or descriptors.
    pub fn start_paused(self) -> Result<RunningVm, BuildError> {
        RunningVm::start(self, true)
    }
}

/// Opens the memory of a snapshot, which must be complete and of the right size.
fn open_memory(snapshot: &Snapshot, path: &Path) -> Result<File, SnapshotError> {
    let file = File::open(path).map_err(SnapshotError::file("open", path))?;
    let found = file.metadata().map_err(SnapshotError::file("measure", path))?.len();
    let expected = snapshot.config.memory_bytes();
    if found == expected + DIFF_MARK_LEN {
        return Err(SnapshotError::IsDiff(path.to_owned()));
    }
    if found != expected {
        return Err(SnapshotError::MemorySize { path: path.to_owned(), found, expected });
    }
    Ok(file)
}

fn describe_machine(
    config: &VmConfig,
    memory: &GuestMemory,
    kernel: &Kernel,
    platform: &dyn Platform,
    devices: &Devices,
) -> Result<Entry, BuildError> {
    let hardware = Hardware {
        acpi: config.acpi.for_kernel(kernel.header.is_some()),
        cpus: config.vcpus.into(),
        pic: platform.has_pic(),
        serial: devices.has_serial(),
        virtio: devices.virtio_windows().collect(),
    };
    let cmdline = command_line(config, hardware.acpi, platform.cmdline()?, &hardware.virtio);
    let initrd = config.initrd.as_deref();
    Ok(boot::describe_machine(memory, config.memory_bytes(), kernel, initrd, &cmdline, &hardware)?)
}

/// The kernel's command line: our defaults, what the engine needs (`words`), devices where there is no ACPI, and what
/// the user adds.
pub(super) fn command_line(config: &VmConfig, acpi: bool, words: &str, windows: &[(u64, u32)]) -> Cmdline {
    let consoles = Consoles { serial: config.serial != SerialConfig::None, hvc: config.console.is_some() };
    let defaults = if config.own_kernel { Cmdline::for_own_kernel } else { Cmdline::new };
    let mut cmdline = defaults(consoles, acpi);
    cmdline.push(words);
    for (base, irq) in windows.iter().filter(|_| !acpi) {
        cmdline.push_virtio_mmio(*base, *irq);
    }
    if let Some((index, pmem)) = config.pmems.iter().enumerate().find(|(_, pmem)| pmem.root_device) {
        let access = if pmem.read_only { "ro" } else { "rw" };
        cmdline.push(&format!("root=/dev/pmem{index} {access}"));
    }
    cmdline.push(&config.cmdline);
    cmdline
}
