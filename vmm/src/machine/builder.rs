//! Booting as a list of steps.

use std::sync::Arc;

use super::devices::{DeviceError, Devices};
use super::platform::{self, Platform};
use super::{Requests, RunningVm};
use crate::boot::{self, BootError, Cmdline, Entry, Kernel};
use crate::config::{ConfigError, VmConfig};
use crate::cpu::exit::Machine;
use crate::cpu::{CpuEngine, CpuError};
use crate::events::{BootEvent, EventSink, Milestone};
use crate::kvm::KvmError;
use crate::memory::{self, GuestMemory, MemoryError};
use crate::virtio::EventLoop;

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
    /// Threads could not be started.
    #[error(transparent)]
    Cpu(#[from] CpuError),
}

/// A virtual machine that is ready for its first instruction.
pub struct Vm {
    pub(super) cpu: Box<dyn CpuEngine>,
    pub(super) machine: Machine,
    pub(super) event_loop: EventLoop,
    pub(super) requests: Arc<Requests>,
    pub(super) events: Arc<dyn EventSink>,
    pub(super) uses_terminal: bool,
    pub(super) platform: Box<dyn Platform>,
    pub(super) symbols: Option<std::path::PathBuf>,
}

impl Vm {
    /// Builds the machine that `config` describes.
    ///
    /// # Errors
    /// Says what cannot be had, and what to do about it.
    pub fn build(config: &VmConfig, events: Arc<dyn EventSink>) -> Result<Self, BuildError> {
        let reached = |milestone| events.record(BootEvent::now(milestone));
        config.check()?;
        reached(Milestone::ConfigParsed);
        let memory = memory::map_guest_ram(config.memory_bytes())?;
        reached(Milestone::MemoryMapped);
        let mut platform = platform::open(config.engine, &memory)?;
        reached(Milestone::KvmOpened);
        let kernel = boot::load_kernel(&memory, config.memory_bytes(), &config.kernel)?;
        reached(Milestone::KernelLoaded);
        let devices = Devices::place(config, &memory, &*platform, events.clone())?;
        reached(Milestone::DevicesPlaced);
        let entry = describe_machine(config, &memory, &kernel, &*platform, &devices)?;
        let cpu = platform.create_cpu(entry, config.profile)?;
        let uses_terminal = devices.uses_terminal();
        let (machine, event_loop, requests) = devices.into_running(cpu.kicker())?;
        reached(Milestone::VcpusReady);
        Ok(Self {
            cpu,
            machine,
            event_loop,
            requests,
            events,
            uses_terminal,
            platform,
            symbols: config.symbols.clone(),
        })
    }

    /// Starts the guest.
    ///
    /// # Errors
    /// The host gives no threads or descriptors.
    pub fn start(self) -> Result<RunningVm, BuildError> {
        RunningVm::start(self)
    }
}

fn describe_machine(
    config: &VmConfig,
    memory: &GuestMemory,
    kernel: &Kernel,
    platform: &dyn Platform,
    devices: &Devices,
) -> Result<Entry, BuildError> {
    let mut cmdline = Cmdline::new(devices.has_serial());
    cmdline.push(platform.cmdline()?);
    for (base, irq) in devices.virtio_windows() {
        cmdline.push_virtio_mmio(base, irq);
    }
    cmdline.push(&config.cmdline);
    let initrd = config.initrd.as_deref();
    Ok(boot::describe_machine(memory, config.memory_bytes(), kernel, initrd, &cmdline)?)
}
