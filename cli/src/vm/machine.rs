//! The flags that describe a machine without an image.

use std::path::PathBuf;

use anyhow::Context;
use vmm::{Acpi, Engine, RngConfig, Symbols, VmConfig};

use super::balloon_flag::{self, Balloon};
use super::console_flag::{self, Console};
use super::cpus_flag::{self, Cpus};
use super::disk_flag::{self, Disk};
use super::fs_flag::{self, Fs};
use super::net_flag::Net;
use super::pmem_flag::{self, Pmem};
use super::serve;
use super::vhost_user_disk_flag::{self, VhostUserDisk};
use super::vsock_flag::Vsock;

/// What the machine is made of.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct MachineArgs {
    /// The kernel: an ELF vmlinux, a bzImage, or an ELF file with a PVH note
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    kernel: Option<PathBuf>,
    /// A machine as JSON, of the form of Firecracker's --config-file, instead of these flags
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "kernel", "initrd", "cpus", "disk", "vhost_user_disk", "fs", "balloon", "rng", "net", "vsock", "pmem",
        "console", "cmdline", "memory",
    ])]
    config: Option<PathBuf>,
    /// Initial RAM disk
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// A disk, /dev/vda and so on in this order
    #[arg(long, value_name = disk_flag::FORM)]
    disk: Vec<Disk>,
    /// A memory balloon: of MIB to begin with; reporting gives back what the guest has free
    #[arg(long, value_name = balloon_flag::FORM, num_args = 0..=1, default_missing_value = "")]
    balloon: Option<Balloon>,
    /// The guest's console is hvc0, on the terminal, at a Unix socket that clients attach to, or in a file
    #[arg(long, value_name = console_flag::FORM)]
    console: Option<Console>,
    /// Random bytes of the host's, /dev/hwrng in the guest
    #[arg(long)]
    rng: bool,
    /// A network card on a tap interface, eth0 and so on in this order
    #[arg(long, value_name = "tap=NAME[,mac=…][,mtu=BYTES][,bw=BYTES/S][,iops=FRAMES/S]")]
    net: Vec<Net>,
    /// A socket device: host programs connect at PATH, the guest reaches PATH_PORT
    #[arg(long, value_name = "PATH[,cid=NUMBER]")]
    vsock: Option<Vsock>,
    /// A directory that virtiofsd serves at a Unix socket; the guest does `mount -t virtiofs NAME DIR`
    #[arg(long, value_name = fs_flag::FORM)]
    fs: Vec<Fs>,
    /// A disk that another process serves at a Unix socket (vhost-user-blk)
    #[arg(long, value_name = vhost_user_disk_flag::FORM)]
    vhost_user_disk: Vec<VhostUserDisk>,
    /// An image in the guest's physical memory, /dev/pmem0 and so on in this order
    #[arg(long, value_name = pmem_flag::FORM)]
    pmem: Vec<Pmem>,
    /// Added to the kernel's command line
    #[arg(long, value_name = "STRING", default_value = "", allow_hyphen_values = true)]
    cmdline: String,
    /// Describe the machine by ACPI, as distributions' kernels want it, or by the kernel's command line, for those with
    /// CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES; auto is ACPI for a bzImage and the command line for the others
    #[arg(long, value_enum, default_value = "auto", value_name = "auto|on|off", hide_possible_values = true)]
    acpi: AcpiChoice,
    /// Virtual CPUs; affinity binds each to CPUs of the host, one or a range for each, in their order
    #[arg(long, value_name = cpus_flag::FORM, default_value = "1")]
    cpus: Cpus,
    /// RAM in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    memory: u32,
    /// The kernel's System.map, for names of places in it [default: the one beside the kernel, if there]
    #[arg(long, value_name = "FILE")]
    symbols: Option<PathBuf>,
}

impl MachineArgs {
    /// The machine, run by `engine`, without a serial port unless a file says so.
    ///
    /// # Errors
    /// The file of symbols that was asked for is not there, or the machine's file makes no sense.
    pub(super) fn config(self, engine: Engine) -> anyhow::Result<VmConfig> {
        if let Some(path) = &self.symbols {
            anyhow::ensure!(
                path.is_file(),
                "there is no file {}; give the System.map that the kernel's build made, or leave --symbols out",
                path.display()
            );
        }
        if let Some(path) = &self.config {
            let config = serve::read_config(path)?.to_config(engine)?;
            return Ok(VmConfig {
                acpi: self.acpi.into(),
                symbols: self.symbols.or(config.symbols),
                ..config
            });
        }
        let kernel = self.kernel.context("name a kernel by --kernel, or a machine by --config")?;
        let symbols = self.symbols.or_else(|| Symbols::beside(&kernel));
        Ok(VmConfig {
            engine,
            initrd: self.initrd,
            cmdline: self.cmdline,
            acpi: self.acpi.into(),
            vcpus: self.cpus.count,
            cpu_affinity: self.cpus.affinity,
            symbols,
            disks: self.disk.into_iter().map(|Disk(config)| config).collect(),
            balloon: self.balloon.map(|Balloon(config)| config),
            fs: self.fs.into_iter().map(|Fs(config)| config).collect(),
            vhost_user_disks: self.vhost_user_disk.into_iter().map(|VhostUserDisk(config)| config).collect(),
            pmems: self.pmem.into_iter().map(|Pmem(config)| config).collect(),
            console: self.console.map(|Console(config)| config),
            rng: self.rng.then(RngConfig::default),
            nets: self.net.into_iter().map(|Net(config)| config).collect(),
            vsock: self.vsock.map(|Vsock(config)| config),
            ..VmConfig::new(kernel, self.memory)
        })
    }
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum AcpiChoice {
    /// For a bzImage
    Auto,
    /// By ACPI
    On,
    /// By the command line
    Off,
}

impl From<AcpiChoice> for Acpi {
    fn from(choice: AcpiChoice) -> Self {
        match choice {
            AcpiChoice::Auto => Self::Auto,
            AcpiChoice::On => Self::On,
            AcpiChoice::Off => Self::Off,
        }
    }
}
