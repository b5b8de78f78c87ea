//! What a virtual machine is to be: plain data.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::memory::Backing;

pub use crate::virtio::balloon::BalloonConfig;
pub use crate::virtio::block::{CacheMode, DiskConfig, IoEngine};
pub use crate::virtio::fs::FsConfig;
pub use crate::virtio::net::{NetConfig, TapSource};
pub use crate::virtio::pmem::PmemConfig;
pub use crate::virtio::rate_limit::{RateLimiterConfig, TokenBucketConfig};
pub use crate::virtio::vhost_user::VhostUserBlockConfig;
pub use crate::virtio::vsock::VsockConfig;

/// Least memory that holds the boot structures and any kernel at all, in MiB.
const MIN_MEMORY_MIB: u32 = 4;
/// Most virtio devices: each has an input of the I/O APIC.
const MAX_DEVICES: usize = 16;
/// Most virtual CPUs.
const MAX_VCPUS: u8 = 64;
/// The host's CPUs are numbered below this, as far as a thread can be bound to them.
const MAX_HOST_CPUS: u16 = 1024;

/// A virtual machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VmConfig {
    /// An ELF vmlinux, a bzImage, or an ELF file with a PVH note.
    pub kernel: PathBuf,
    /// The kernel is the one that `guest-images/kernel` describes, which needs fewer words on its command line.
    #[serde(default)]
    pub own_kernel: bool,
    /// Initial RAM disk.
    #[serde(default)]
    pub initrd: Option<PathBuf>,
    /// Added to the kernel's command line, where it has the last word.
    #[serde(default)]
    pub cmdline: String,
    /// How the kernel learns of processors and devices.
    #[serde(default)]
    pub acpi: Acpi,
    /// What runs the guest's kernel.
    #[serde(default)]
    pub engine: Engine,
    /// The kernel's System.map: names the place where it dies.
    #[serde(default)]
    pub symbols: Option<PathBuf>,
    /// Count the kernel's instructions by address; the software engine only.
    #[serde(default)]
    pub profile: bool,
    /// End the guest when it writes this byte to the boot timer's port.
    #[serde(default)]
    pub stop_at_mark: Option<u8>,
    /// RAM in MiB.
    pub memory_mib: u32,
    /// What RAM is made of.
    #[serde(default)]
    pub memory_backing: Backing,
    /// Make snapshots after the first one small: write down only what has changed.
    #[serde(default)]
    pub track_dirty_pages: bool,
    /// Virtual CPUs. The software engine runs one.
    #[serde(default = "one")]
    pub vcpus: u8,
    /// The host's CPUs that each virtual CPU may run on, in their order; those beyond the list run anywhere.
    #[serde(default)]
    pub cpu_affinity: Vec<Vec<u16>>,
    /// virtio block devices: /dev/vda, /dev/vdb, … in this order.
    #[serde(default)]
    pub disks: Vec<DiskConfig>,
    /// virtio block devices that other processes serve: /dev/vdb, … after the disks above, in this order.
    #[serde(default)]
    pub vhost_user_disks: Vec<VhostUserBlockConfig>,
    /// Directories of the host, served by virtiofsd.
    #[serde(default)]
    pub fs: Vec<FsConfig>,
    /// virtio persistent memory: /dev/pmem0, … in this order.
    #[serde(default)]
    pub pmems: Vec<PmemConfig>,
    /// virtio network devices: eth0, … in this order.
    #[serde(default)]
    pub nets: Vec<NetConfig>,
    /// virtio socket device.
    #[serde(default)]
    pub vsock: Option<VsockConfig>,
    /// virtio memory balloon.
    #[serde(default)]
    pub balloon: Option<BalloonConfig>,
    /// virtio entropy device.
    #[serde(default)]
    pub rng: Option<RngConfig>,
    /// Where the first serial port leads.
    #[serde(default)]
    pub serial: SerialConfig,
    /// virtio console, hvc0: where it leads.
    #[serde(default)]
    pub console: Option<ConsoleConfig>,
}

fn one() -> u8 {
    1
}

/// What runs the guest's kernel. Its programs run natively under KVM with either.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// KVM where the CPU has virtualisation, our interpreter where it has not.
    #[default]
    Auto,
    /// KVM.
    Kvm,
    /// Our interpreter.
    Soft,
}

/// Whether ACPI tables describe the machine. Where they do not, the command line and the MP table do, for kernels that
/// are built for that (`CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acpi {
    /// For a kernel in a bzImage, which is what distributions ship, but not for a vmlinux, which is usually built for a
    /// machine like this one.
    #[default]
    Auto,
    /// They do.
    On,
    /// They do not.
    Off,
}

impl Acpi {
    /// Whether there are to be tables for a kernel that came in a bzImage, or did not.
    pub(crate) fn for_kernel(self, is_bzimage: bool) -> bool {
        match self {
            Self::Auto => is_bzimage,
            Self::On => true,
            Self::Off => false,
        }
    }
}

/// An entropy device: random bytes of the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RngConfig {
    /// How many bytes and requests it serves in a time.
    #[serde(default)]
    pub rate_limiter: RateLimiterConfig,
}

/// The other end of the first serial port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SerialConfig {
    /// Nothing; the kernel is not told of a console there.
    #[default]
    None,
    /// Standard input and output, a terminal in raw mode.
    Stdio,
    /// Output on standard error, no input.
    Stderr,
    /// Output appended to a file.
    File(PathBuf),
}

/// The other end of the virtio console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsoleConfig {
    /// Standard input and output, a terminal in raw mode.
    Stdio,
    /// Output appended to a file or pipe, no input.
    File(PathBuf),
    /// A Unix socket that clients attach to, one at a time.
    Socket(PathBuf),
}

/// A configuration that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Too few or too many CPUs.
    #[error("{0} vCPUs were asked for; a machine has 1 to {MAX_VCPUS}")]
    Vcpus(u8),
    /// CPUs of the host that vCPUs cannot be bound to.
    #[error(
        "cpu_affinity must name CPUs of the host below {MAX_HOST_CPUS}, at least one for each vCPU in it, and no more vCPUs than there are"
    )]
    Affinity,
    /// Too little memory.
    #[error("{0} MiB of memory are too little; give the guest at least {MIN_MEMORY_MIB}")]
    Memory(u32),
    /// Too many devices.
    #[error("{0} virtio devices were asked for; at most {MAX_DEVICES} fit")]
    Devices(usize),
    /// One terminal for two consoles.
    #[error("serial port and console cannot both have standard input; give one of them a file or nothing")]
    TwoConsoles,
}

impl VmConfig {
    /// A machine with `memory_mib` of RAM that boots `kernel`, with nothing else.
    pub fn new(kernel: impl Into<PathBuf>, memory_mib: u32) -> Self {
        Self {
            kernel: kernel.into(),
            own_kernel: false,
            initrd: None,
            cmdline: String::new(),
            acpi: Acpi::Auto,
            engine: Engine::Auto,
            symbols: None,
            profile: false,
            stop_at_mark: None,
            memory_mib,
            memory_backing: Backing::File,
            track_dirty_pages: false,
            vcpus: 1,
            cpu_affinity: Vec::new(),
            disks: Vec::new(),
            vhost_user_disks: Vec::new(),
            fs: Vec::new(),
            pmems: Vec::new(),
            nets: Vec::new(),
            vsock: None,
            balloon: None,
            rng: None,
            serial: SerialConfig::None,
            console: None,
        }
    }

    /// Whether standard input is the guest's.
    pub(crate) fn uses_terminal(&self) -> bool {
        self.serial == SerialConfig::Stdio || self.console == Some(ConsoleConfig::Stdio)
    }

    /// RAM in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        u64::from(self.memory_mib) << 20
    }

    fn can_bind(&self, affinity: &[Vec<u16>]) -> bool {
        let is_good = |cpus: &Vec<u16>| !cpus.is_empty() && cpus.iter().all(|cpu| *cpu < MAX_HOST_CPUS);
        affinity.len() <= self.vcpus.into() && affinity.iter().all(is_good)
    }

    /// Checks what can be checked without looking at the host.
    ///
    /// # Errors
    /// A figure is out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let devices = self.disks.len()
            + self.vhost_user_disks.len()
            + self.fs.len()
            + self.pmems.len()
            + self.nets.len()
            + usize::from(self.vsock.is_some())
            + usize::from(self.balloon.is_some())
            + usize::from(self.rng.is_some())
            + usize::from(self.console.is_some());
        match self {
            Self { vcpus, .. } if !(1..=MAX_VCPUS).contains(vcpus) => Err(ConfigError::Vcpus(*vcpus)),
            Self { cpu_affinity, .. } if !self.can_bind(cpu_affinity) => Err(ConfigError::Affinity),
            Self { memory_mib, .. } if *memory_mib < MIN_MEMORY_MIB => Err(ConfigError::Memory(*memory_mib)),
            Self { serial: SerialConfig::Stdio, console: Some(ConsoleConfig::Stdio), .. } => {
                Err(ConfigError::TwoConsoles)
            }
            _ if devices > MAX_DEVICES => Err(ConfigError::Devices(devices)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_out_of_range_are_refused() {
        let good = VmConfig::new("vmlinux", 128);
        good.check().unwrap();
        let disk = DiskConfig::new("d");
        for (bad, message) in [
            (VmConfig { vcpus: 0, ..good.clone() }, "1 to 64"),
            (VmConfig { vcpus: 65, ..good.clone() }, "1 to 64"),
            (VmConfig { cpu_affinity: vec![vec![0], vec![1]], ..good.clone() }, "no more vCPUs"),
            (VmConfig { cpu_affinity: vec![vec![]], ..good.clone() }, "at least one"),
            (VmConfig { cpu_affinity: vec![vec![1024]], ..good.clone() }, "below 1024"),
            (VmConfig { memory_mib: 1, ..good.clone() }, "at least 4"),
            (
                VmConfig { serial: SerialConfig::Stdio, console: Some(ConsoleConfig::Stdio), ..good.clone() },
                "cannot both",
            ),
            (VmConfig { disks: vec![disk; 17], ..good }, "at most 16"),
        ] {
            let error = bad.check().unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn distributions_kernels_get_acpi_unless_told_otherwise() {
        for (acpi, for_bzimage, for_vmlinux) in
            [(Acpi::Auto, true, false), (Acpi::On, true, true), (Acpi::Off, false, false)]
        {
            assert_eq!((acpi.for_kernel(true), acpi.for_kernel(false)), (for_bzimage, for_vmlinux));
        }
    }

    #[test]
    fn a_small_configuration_can_be_written_by_hand() {
        let config: VmConfig = serde_json::from_str(r#"{"kernel": "vmlinux", "memory_mib": 64}"#).unwrap();
        assert_eq!((config.vcpus, config.serial), (1, SerialConfig::None));
    }
}
