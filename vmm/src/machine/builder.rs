//! Booting as a list of steps.

use std::sync::Arc;

use super::devices::{DeviceError, Devices};
use super::{Requests, RunningVm};
use crate::boot::{self, BootError, Cmdline, Entry, Kernel};
use crate::config::{ConfigError, VmConfig};
use crate::cpu::exit::Machine;
use crate::cpu::{CpuEngine, CpuError};
use crate::events::{BootEvent, EventSink, Milestone};
use crate::kvm::{Host, KvmCpu, KvmError, KvmMachine};
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
    pub(super) kvm: KvmMachine,
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
        let (host, kvm) = create_vm()?;
        reached(Milestone::KvmOpened);
        let memory = memory::map_guest_ram(config.memory_bytes())?;
        reached(Milestone::MemoryMapped);
        let kernel = boot::load_kernel(&memory, config.memory_bytes(), &config.kernel)?;
        reached(Milestone::KernelLoaded);
        let devices = Devices::place(config, &memory, &kvm, events.clone())?;
        reached(Milestone::DevicesPlaced);
        let entry = describe_machine(config, &memory, &kernel, &kvm, &devices)?;
        let cpu = set_up_vcpu(&host, &kvm, &memory, entry)?;
        let uses_terminal = devices.uses_terminal();
        let (machine, event_loop, requests) = devices.into_running(cpu.kicker())?;
        reached(Milestone::VcpusReady);
        Ok(Self { cpu: Box::new(cpu), machine, event_loop, requests, events, uses_terminal, kvm })
    }

    /// Starts the guest.
    ///
    /// # Errors
    /// The host gives no threads or descriptors.
    pub fn start(self) -> Result<RunningVm, BuildError> {
        RunningVm::start(self)
    }
}

fn create_vm() -> Result<(Host, KvmMachine), KvmError> {
    let host = Host::open()?;
    let machine = KvmMachine::create(&host)?;
    Ok((host, machine))
}

/// Gives KVM the memory only now: its wait for readers of the memory map would come on top of the probe's waits.
fn set_up_vcpu(
    host: &Host,
    kvm: &KvmMachine,
    memory: &GuestMemory,
    entry: Entry,
) -> Result<KvmCpu, KvmError> {
    kvm.add_memory(memory)?;
    KvmCpu::create(host, kvm, memory, entry)
}

fn describe_machine(
    config: &VmConfig,
    memory: &GuestMemory,
    kernel: &Kernel,
    kvm: &KvmMachine,
    devices: &Devices,
) -> Result<Entry, BuildError> {
    let mut cmdline = Cmdline::new(devices.has_serial());
    cmdline.push(kvm.cmdline()?);
    for (base, irq) in devices.virtio_windows() {
        cmdline.push_virtio_mmio(base, irq);
    }
    cmdline.push(&config.cmdline);
    let initrd = config.initrd.as_deref();
    Ok(boot::describe_machine(memory, config.memory_bytes(), kernel, initrd, &cmdline)?)
}
