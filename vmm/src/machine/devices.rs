//! Puts the devices of a configuration on the buses and on the event loop.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use event_manager::{EventManager, SubscriberOps};
use vm_memory::GuestMemoryRegion;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::{Handles, Platform, Requests, VmExit};
use crate::bus::{Bus, WindowTaken};
use crate::config::{
    BalloonConfig, ConsoleConfig, DiskConfig, FsConfig, NetConfig, PmemConfig, RngConfig, SerialConfig,
    VhostUserBlockConfig, VmConfig, VsockConfig,
};
use crate::console::HostEnd;
use crate::console::file::FileEnd;
use crate::console::socket::SocketEnd;
use crate::console::stdio::StdioEnd;
use crate::cpu::Kick;
use crate::cpu::exit::Machine;
use crate::cpu::halt_watch::HaltWatch;
use crate::events::EventSink;
use crate::kvm::KvmError;
use crate::legacy::boot_timer::{BOOT_TIMER_PORT, BootTimer};
use crate::legacy::console_input::ConsoleInput;
use crate::legacy::generation_id::GenerationId;
use crate::legacy::i8042::{self, I8042};
use crate::legacy::power::{self, PowerControl};
use crate::legacy::serial::{self, SavedSerial, SerialPort};
use crate::memory::{self, GuestMemory, layout};
use crate::snapshot::SnapshotError;
use crate::virtio::attach::{AttachError, lock};
use crate::virtio::balloon::BalloonError;
use crate::virtio::block::BlockError;
use crate::virtio::device::SharedDevice;
use crate::virtio::mmio::{MMIO_SIZE, QUEUE_NOTIFY};
use crate::virtio::net::{NetError, TapError};
use crate::virtio::vhost_user::VhostUserError;
use crate::virtio::vsock::VsockError;
use crate::virtio::{
    Balloon, Block, Console, EventLoop, MmioTransport, Net, PersistError, Pmem, Rng, SavedDevice, Tap, Vsock,
};

/// Why a device could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A disk.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A network card.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The tap of a network card.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// A device that another process serves.
    #[error(transparent)]
    VhostUser(#[from] VhostUserError),
    /// The socket device.
    #[error(transparent)]
    Vsock(#[from] VsockError),
    /// The memory balloon.
    #[error(transparent)]
    Balloon(#[from] BalloonError),
    /// The file that the serial port writes to.
    #[error("cannot open {path} for the serial console: {source}")]
    SerialFile {
        /// The file.
        path: PathBuf,
        /// What the host said.
        source: std::io::Error,
    },
    /// The file or socket of the virtio console.
    #[error(
        "cannot open {path} for the console: {source}; a pipe needs a reader, a socket's path at most 107 bytes"
    )]
    Console {
        /// The file or socket.
        path: PathBuf,
        /// What the host said.
        source: std::io::Error,
    },
    /// Wiring it to KVM.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// Two devices in one place.
    #[error(transparent)]
    Bus(#[from] WindowTaken),
    /// The event loop.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The generation id.
    #[error("cannot give the guest a new generation id: {0}")]
    Generation(std::io::Error),
    /// There are fewer.
    #[error("the machine has no {kind} {index}")]
    NoSuch {
        /// What kind.
        kind: &'static str,
        /// Counted from 0.
        index: usize,
    },
    /// No event loop, eventfd or timer.
    #[error("the host gives no more descriptors; raise the limit of open files: {0}")]
    Descriptors(#[from] std::io::Error),
}

/// What one virtio device is made from.
pub(super) enum VirtioSpec<'a> {
    Disk(&'a DiskConfig),
    Net(&'a NetConfig),
    Vsock(&'a VsockConfig),
    Balloon(&'a BalloonConfig),
    Rng(&'a RngConfig),
    /// With its number.
    Pmem(&'a PmemConfig, usize),
    Console(&'a ConsoleConfig),
    Fs(&'a FsConfig),
    VhostUserDisk(&'a VhostUserBlockConfig),
}

/// The devices of a machine that runs, as its owner reaches them.
pub(super) struct PlacedDevices {
    /// In the order of their windows.
    transports: Vec<Arc<Mutex<MmioTransport>>>,
    serial: Option<Arc<Mutex<SerialPort>>>,
    handles: Handles,
    generation: GenerationId,
}

impl PlacedDevices {
    /// The state of each virtio device, in the order of their windows. The machine is paused.
    ///
    /// # Errors
    /// One has state that cannot be had.
    pub(super) fn save(&self) -> Result<Vec<SavedDevice>, SnapshotError> {
        let save = |transport: &Arc<Mutex<MmioTransport>>| {
            let transport = lock(transport);
            match transport.refuses_snapshot() {
                Some(reason) => Err(SnapshotError::Device(reason)),
                None => Ok(transport.save()),
            }
        };
        self.transports.iter().map(save).collect()
    }

    /// The devices that whoever runs the machine has a say in.
    pub(super) fn handles(&self) -> &Handles {
        &self.handles
    }

    /// Tells the guest that it is a copy.
    ///
    /// # Errors
    /// The host gives no random bytes, or cannot signal the interrupt.
    pub(super) fn renew_generation(&self) -> Result<(), DeviceError> {
        self.generation.renew().map_err(DeviceError::Generation)
    }

    /// The state of the serial port.
    pub(super) fn save_serial(&self) -> Option<SavedSerial> {
        self.serial.as_ref().map(|port| lock(port).save())
    }
}

/// Devices in their places, not yet running.
pub(super) struct Devices {
    ports: Bus,
    mmio: Bus,
    event_loop: EventLoop,
    requests: Arc<Requests>,
    serial: Option<(Arc<Mutex<SerialPort>>, Arc<EventFd>)>,
    serial_config: SerialConfig,
    virtio_windows: Vec<(u64, u32)>,
    transports: Vec<Arc<Mutex<MmioTransport>>>,
    handles: Handles,
    generation: GenerationId,
}

impl Devices {
    /// Makes and wires all devices of `config`; the serial port goes on from `serial`, if that was saved.
    pub(super) fn place(
        config: &VmConfig,
        memory: &GuestMemory,
        platform: &dyn Platform,
        requests: &Arc<Requests>,
        events: &Arc<dyn EventSink>,
        serial: Option<&SavedSerial>,
    ) -> Result<Self, DeviceError> {
        let event_loop = EventManager::new().map_err(|e| std::io::Error::other(e.to_string()))?;
        let mut devices = Self {
            ports: Bus::default(),
            mmio: Bus::default(),
            event_loop,
            requests: requests.clone(),
            serial: None,
            serial_config: config.serial.clone(),
            virtio_windows: Vec::new(),
            transports: Vec::new(),
            handles: Handles::of(config.vcpus),
            generation: GenerationId::place(memory, platform.interrupt_line(layout::GENERATION_IRQ)?)
                .map_err(DeviceError::Generation)?,
        };
        let saved = serial.cloned().unwrap_or_default();
        devices.place_legacy(config, platform, events.clone(), &saved)?;
        for (spec, base, irq) in virtio_slots(config) {
            let device = make_virtio(spec, memory, config.memory_mib, &mut devices.handles)?;
            devices.place_virtio(device, base, irq, memory, platform)?;
        }
        Ok(devices)
    }

    fn place_legacy(
        &mut self,
        config: &VmConfig,
        platform: &dyn Platform,
        events: Arc<dyn EventSink>,
        serial: &SavedSerial,
    ) -> Result<(), DeviceError> {
        let i8042 = Arc::new(Mutex::new(I8042::new(self.requests.clone())));
        self.ports.insert(i8042::PORTS, i8042::PORTS_LEN, i8042)?;
        let power = Arc::new(Mutex::new(PowerControl::new(self.requests.clone())));
        self.ports.insert(power::PORTS, power::PORTS_LEN, power)?;
        let mut boot_timer = BootTimer::new(events);
        if let Some(mark) = config.stop_at_mark {
            boot_timer.stop_at(mark, self.requests.clone());
        }
        self.ports.insert(BOOT_TIMER_PORT, 1, Arc::new(Mutex::new(boot_timer)))?;
        if let Some(out) = serial_output(&self.serial_config)? {
            let line = platform.interrupt_line(serial::IRQ)?;
            let input_read = Arc::new(EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?);
            let port = Arc::new(Mutex::new(SerialPort::new(line, Some(input_read.clone()), out, serial)?));
            self.ports.insert(serial::PORTS, serial::PORTS_LEN, port.clone())?;
            self.serial = Some((port, input_read));
        }
        Ok(())
    }

    fn place_virtio(
        &mut self,
        device: SharedDevice,
        base: u64,
        irq: u32,
        memory: &GuestMemory,
        platform: &dyn Platform,
    ) -> Result<(), DeviceError> {
        let line = platform.interrupt_line(irq)?;
        let transport = MmioTransport::new(device, memory.clone(), line)?;
        for (queue, event) in (0..).zip(transport.queue_events()) {
            platform.notify_on_write(base + QUEUE_NOTIFY, queue, event)?;
        }
        transport.attach(&mut self.event_loop)?;
        let transport = Arc::new(Mutex::new(transport));
        self.mmio.insert(base, MMIO_SIZE, transport.clone())?;
        self.transports.push(transport);
        self.virtio_windows.push((base, irq));
        Ok(())
    }

    /// Base address and interrupt of each virtio device.
    pub(super) fn virtio_windows(&self) -> impl Iterator<Item = (u64, u32)> {
        self.virtio_windows.iter().copied()
    }

    /// Tells a restored guest that it is a copy. The interrupt controllers are restored.
    ///
    /// # Errors
    /// The host gives no random bytes, or cannot signal the interrupt.
    pub(super) fn renew_generation(&self) -> Result<(), DeviceError> {
        self.generation.renew().map_err(DeviceError::Generation)
    }

    /// Whether the guest has a serial console.
    pub(super) fn has_serial(&self) -> bool {
        self.serial.is_some()
    }

    /// Makes the virtio devices what they were when a snapshot was taken.
    ///
    /// # Errors
    /// The machine of the snapshot had others, or one cannot go on.
    pub(super) fn restore(&self, saved: Vec<SavedDevice>) -> Result<(), PersistError> {
        if saved.len() != self.transports.len() {
            return Err(PersistError::Devices { saved: saved.len(), here: self.transports.len() });
        }
        self.transports.iter().zip(saved).try_for_each(|(transport, saved)| lock(transport).restore(saved))
    }

    /// Adds what needs the vCPUs, and takes the parts apart for the threads that run them.
    pub(super) fn into_running(
        mut self,
        kicker: Arc<dyn Kick>,
    ) -> Result<(Machine, EventLoop, PlacedDevices), DeviceError> {
        let serial_is_terminal = self.serial_config == SerialConfig::Stdio;
        let serial = self.serial.as_ref().map(|(port, _)| port.clone());
        if let Some(console) = &self.handles.console {
            let (requests, kicker) = (self.requests.clone(), kicker.clone());
            lock(console).on_escape(Box::new(move || {
                requests.end(VmExit::Stopped);
                if let Err(error) = kicker.kick() {
                    tracing::warn!(%error, "cannot stop the guest");
                }
            }));
        }
        if let Some((port, input_read)) = self.serial.filter(|_| serial_is_terminal) {
            let input = ConsoleInput::new(port, input_read, self.requests.clone(), kicker.clone());
            self.event_loop.add_subscriber(Box::new(input));
        }
        self.event_loop.add_subscriber(Box::new(HaltWatch::new(self.requests.clone(), kicker)?));
        let machine = Machine {
            ports: self.ports,
            mmio: self.mmio,
            requests: self.requests,
            exits: self.handles.exits.clone(),
        };
        let placed = PlacedDevices {
            transports: self.transports,
            serial,
            handles: self.handles,
            generation: self.generation,
        };
        Ok((machine, self.event_loop, placed))
    }
}

/// The virtio devices of `config` in the order of their windows.
fn virtio_specs(config: &VmConfig) -> impl Iterator<Item = VirtioSpec<'_>> {
    let disks = config.disks.iter().map(VirtioSpec::Disk);
    let nets = config.nets.iter().map(VirtioSpec::Net);
    let vsock = config.vsock.iter().map(VirtioSpec::Vsock);
    let others = vsock
        .chain(config.balloon.iter().map(VirtioSpec::Balloon))
        .chain(config.rng.iter().map(VirtioSpec::Rng))
        .chain(config.console.iter().map(VirtioSpec::Console));
    let pmems = config.pmems.iter().zip(0..).map(|(config, index)| VirtioSpec::Pmem(config, index));
    let served_disks = config.vhost_user_disks.iter().map(VirtioSpec::VhostUserDisk);
    let fs = config.fs.iter().map(VirtioSpec::Fs);
    disks.chain(nets).chain(others).chain(pmems).chain(served_disks).chain(fs)
}

/// The virtio devices of `config`, each with the address of its window and its interrupt.
pub(super) fn virtio_slots(config: &VmConfig) -> impl Iterator<Item = (VirtioSpec<'_>, u64, u32)> {
    let windows = (layout::VIRTIO_MMIO..).step_by(usize::try_from(layout::VIRTIO_MMIO_LEN).unwrap_or(1));
    let slots = virtio_specs(config).zip(windows).zip(layout::VIRTIO_IRQ..);
    slots.map(|((spec, base), irq)| (spec, base, irq))
}

fn make_virtio(
    spec: VirtioSpec<'_>,
    memory: &GuestMemory,
    memory_mib: u32,
    handles: &mut Handles,
) -> Result<SharedDevice, DeviceError> {
    Ok(match spec {
        VirtioSpec::Disk(config) => handles.keep_disk(&config.id, Block::open(config)?),
        VirtioSpec::Net(config) => handles.keep_net(&config.id, Net::new(config, Tap::open(&config.tap)?)?),
        VirtioSpec::Vsock(config) => handles.keep("vsock", None, Arc::new(Mutex::new(Vsock::new(config)?))),
        VirtioSpec::Balloon(config) => handles.keep_balloon(Balloon::new(config, memory_mib)?),
        VirtioSpec::Rng(RngConfig { rate_limiter }) => {
            handles.keep("entropy", None, Arc::new(Mutex::new(Rng::new(rate_limiter)?)))
        }
        VirtioSpec::Pmem(config, index) => {
            let image = memory::images(memory).nth(index);
            let image = image.ok_or(DeviceError::NoSuch { kind: "image in its memory", index })?;
            let file = image.file_offset().filter(|_| !config.read_only).map(|file| file.arc().clone());
            let pmem = Pmem::new(image.start_addr().0, image.len(), file);
            let id = Some(config.id.clone()).filter(|id| !id.is_empty());
            handles.keep("pmem", id, Arc::new(Mutex::new(pmem)))
        }
        VirtioSpec::Fs(config) => {
            let device = Arc::new(Mutex::new(config.connect(memory)?));
            handles.keep("fs", Some(config.tag.clone()), device)
        }
        VirtioSpec::VhostUserDisk(config) => {
            let id = Some(config.id.clone()).filter(|id| !id.is_empty());
            handles.keep("vhost_user_block", id, Arc::new(Mutex::new(config.connect(memory)?)))
        }
        VirtioSpec::Console(config) => handles.keep_console(Console::new(console_end(config)?)),
    })
}

/// Where the virtio console leads.
fn console_end(config: &ConsoleConfig) -> Result<Box<dyn HostEnd>, DeviceError> {
    let failed = |path: &PathBuf| {
        let path = path.clone();
        move |source| DeviceError::Console { path, source }
    };
    Ok(match config {
        ConsoleConfig::Stdio => Box::new(StdioEnd::of_this_process()?),
        ConsoleConfig::File(path) => Box::new(FileEnd::open(path).map_err(failed(path))?),
        ConsoleConfig::Socket(path) => Box::new(SocketEnd::bind(path).map_err(failed(path))?),
    })
}

/// Where the serial port's output goes; `None` for no port.
fn serial_output(config: &SerialConfig) -> Result<Option<Box<dyn Write + Send>>, DeviceError> {
    Ok(match config {
        SerialConfig::None => None,
        SerialConfig::Stdio => Some(Box::new(duplicate(rustix::stdio::stdout())?)),
        SerialConfig::Stderr => Some(Box::new(duplicate(rustix::stdio::stderr())?)),
        SerialConfig::File(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let file = file.map_err(|source| DeviceError::SerialFile { path: path.clone(), source })?;
            Some(Box::new(file))
        }
    })
}

/// A descriptor of our own for a standard stream.
fn duplicate(stream: BorrowedFd<'_>) -> Result<File, DeviceError> {
    let fd = rustix::io::fcntl_dupfd_cloexec(stream, 3).map_err(std::io::Error::from)?;
    Ok(fd.into())
}
