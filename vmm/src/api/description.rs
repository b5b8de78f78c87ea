//! All that clients have said of a machine that is to start, in the shape of Firecracker's `--config-file` and of what
//! `/vm/config` answers; and the [`VmConfig`] that it means.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model::{
    Balloon, BootSource, Disk, Drive, Entropy, HugePages, Logger, MachineConfig, Metrics, ModelError,
    NetworkInterface, Pmem, Serial, Vsock,
};
use crate::config::{Engine, RngConfig, SerialConfig, VmConfig, VsockConfig};
use crate::memory::Backing;
use crate::symbols::Symbols;

/// A machine in the words of the API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Description {
    /// Memory and vCPUs.
    pub machine_config: MachineConfig,
    /// Kernel, initial RAM disk, command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_source: Option<BootSource>,
    /// Disks; the one with the root file system comes first.
    pub drives: Vec<Drive>,
    /// Network cards.
    pub network_interfaces: Vec<NetworkInterface>,
    /// Socket device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vsock: Option<Vsock>,
    /// Memory balloon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balloon: Option<Balloon>,
    /// Entropy device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entropy: Option<Entropy>,
    /// Persistent memory.
    pub pmem: Vec<Pmem>,
    /// Serial port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<Serial>,
    /// Logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logger: Option<Logger>,
    /// Figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// A file of Firecracker's may say `null` here.
    #[serde(skip_serializing)]
    cpu_config: Option<Value>,
    #[serde(skip_serializing)]
    mmds_config: Option<Value>,
    #[serde(skip_serializing)]
    memory_hotplug: Option<Value>,
}

impl Description {
    /// Reads a file of Firecracker's `--config-file`.
    ///
    /// # Errors
    /// It is none, or asks for what this VMM does not have.
    pub fn parse(text: &str) -> Result<Self, super::RequestError> {
        let given: Self = serde_json::from_str(text)?;
        let mut description =
            Self { drives: Vec::new(), network_interfaces: Vec::new(), pmem: Vec::new(), ..given.clone() };
        for drive in given.drives {
            description.put_drive(drive)?;
        }
        for pmem in given.pmem {
            description.put_pmem(pmem)?;
        }
        for interface in given.network_interfaces {
            description.put_network_interface(interface);
        }
        description.check()?;
        Ok(description)
    }

    /// Adds a disk, or replaces the one of that name.
    ///
    /// # Errors
    /// It has no file, or is a second root device.
    pub(crate) fn put_drive(&mut self, drive: Drive) -> Result<(), ModelError> {
        drive.to_config()?;
        self.check_root(drive.is_root_device, &drive.drive_id)?;
        let place = self.drives.iter().position(|other| other.drive_id == drive.drive_id);
        let at = match place {
            Some(at) => {
                self.drives.remove(at);
                at
            }
            None => self.drives.len(),
        };
        let at = if drive.is_root_device { 0 } else { at };
        self.drives.insert(at, drive);
        Ok(())
    }

    /// Adds a persistent memory device, or replaces the one of that name.
    ///
    /// # Errors
    /// It is a second root device.
    pub(crate) fn put_pmem(&mut self, pmem: Pmem) -> Result<(), ModelError> {
        self.check_root(pmem.root_device, &pmem.id)?;
        match self.pmem.iter_mut().find(|other| other.id == pmem.id) {
            Some(other) => *other = pmem,
            None => self.pmem.push(pmem),
        }
        Ok(())
    }

    /// Whether `id` may be a root device: no other is.
    fn check_root(&self, is_root: bool, id: &str) -> Result<(), ModelError> {
        let drives = self.drives.iter().filter(|drive| drive.is_root_device).map(|drive| &drive.drive_id);
        let pmems = self.pmem.iter().filter(|pmem| pmem.root_device).map(|pmem| &pmem.id);
        match drives.chain(pmems).find(|other| is_root && *other != id) {
            Some(other) => Err(ModelError::SecondRoot(other.clone())),
            None => Ok(()),
        }
    }

    /// Adds a network card, or replaces the one of that name.
    pub(crate) fn put_network_interface(&mut self, interface: NetworkInterface) {
        match self.network_interfaces.iter_mut().find(|other| other.iface_id == interface.iface_id) {
            Some(other) => *other = interface,
            None => self.network_interfaces.push(interface),
        }
    }

    /// Checks what does not need the host.
    ///
    /// # Errors
    /// The first thing that cannot be had.
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        self.machine_config.check()?;
        let refused = [
            (self.cpu_config.is_some(), "CPU templates; leave cpu-config out"),
            (self.mmds_config.is_some(), "a metadata service; leave mmds-config out"),
            (self.memory_hotplug.is_some(), "memory hotplug; leave memory-hotplug out"),
            (
                self.balloon.as_ref().is_some_and(|balloon| balloon.free_page_hinting),
                "free page hinting; let the guest report free pages by free_page_reporting",
            ),
            (
                self.serial.as_ref().is_some_and(|serial| serial.rate_limiter.is_some()),
                "rate limits of the serial port; leave rate_limiter out",
            ),
        ];
        if let Some((_, what)) = refused.into_iter().find(|(is_asked_for, _)| *is_asked_for) {
            return Err(ModelError::NotAvailable(what));
        }
        let (balloon, memory) =
            (self.balloon.as_ref().map_or(0, |balloon| balloon.amount_mib), self.machine_config.mem_size_mib);
        if balloon > memory { Err(ModelError::Balloon { balloon, memory }) } else { Ok(()) }
    }

    /// The machine, run by `engine`.
    ///
    /// The guest has a serial port if it was configured, or if the kernel is told of one by `console=ttyS0`; it leads to
    /// standard input and output unless a file was named.
    ///
    /// # Errors
    /// There is nothing to boot, or something that this VMM does not have.
    pub fn to_config(&self, engine: Engine) -> Result<VmConfig, ModelError> {
        self.check()?;
        let boot = self.boot_source.as_ref().ok_or(ModelError::NoBootSource)?;
        let mut config = VmConfig::new(&boot.kernel_image_path, self.machine_config.mem_size_mib);
        config.engine = engine;
        config.vcpus = self.machine_config.vcpu_count;
        config.track_dirty_pages = self.machine_config.track_dirty_pages;
        config.memory_backing = match self.machine_config.huge_pages {
            HugePages::None => Backing::default(),
            HugePages::Huge2M => Backing::HugePages,
        };
        config.symbols = Symbols::beside(&boot.kernel_image_path);
        config.initrd.clone_from(&boot.initrd_path);
        for drive in &self.drives {
            match drive.to_config()? {
                Disk::File(disk) => config.disks.push(disk),
                Disk::Served(disk) => config.vhost_user_disks.push(disk),
            }
        }
        // The root device is the first of its kind, and those that others serve come behind those that are files.
        let root = self.drives.first().and_then(|root| {
            root.root_args(if root.is_file() {
                0
            } else {
                u8::try_from(config.disks.len()).unwrap_or(u8::MAX)
            })
        });
        let words = root.as_deref().into_iter().chain(boot.boot_args.as_deref());
        config.cmdline = words.collect::<Vec<_>>().join(" ");
        config.nets = self.network_interfaces.iter().map(NetworkInterface::to_config).collect();
        config.vsock = self
            .vsock
            .as_ref()
            .map(|Vsock { guest_cid, uds_path, .. }| VsockConfig::new(*guest_cid, uds_path));
        config.pmems = self.pmem.iter().map(Pmem::to_config).collect();
        config.balloon = self.balloon.as_ref().map(Balloon::to_config);
        config.rng = self
            .entropy
            .as_ref()
            .map(|entropy| RngConfig { rate_limiter: entropy.rate_limiter.unwrap_or_default() });
        config.serial = match &self.serial {
            Some(Serial { serial_out_path: Some(path), .. }) => SerialConfig::File(path.clone()),
            Some(_) => SerialConfig::Stdio,
            None if config.cmdline.contains("console=ttyS0") => SerialConfig::Stdio,
            None => SerialConfig::None,
        };
        Ok(config)
    }

    /// What the API says of a machine that it did not start itself.
    pub(crate) fn of(config: &VmConfig) -> Self {
        Self {
            machine_config: MachineConfig {
                vcpu_count: config.vcpus,
                mem_size_mib: config.memory_mib,
                track_dirty_pages: config.track_dirty_pages,
                huge_pages: match config.memory_backing {
                    Backing::HugePages => HugePages::Huge2M,
                    Backing::File | Backing::Anonymous => HugePages::None,
                },
                ..MachineConfig::default()
            },
            boot_source: Some(BootSource {
                kernel_image_path: config.kernel.clone(),
                initrd_path: config.initrd.clone(),
                boot_args: Some(config.cmdline.clone()).filter(|args| !args.is_empty()),
            }),
            drives: (config.disks.iter().enumerate().map(|(index, disk)| Drive::of(disk, index)))
                .chain(
                    (config.vhost_user_disks.iter().enumerate())
                        .map(|(index, disk)| Drive::of_served(disk, index)),
                )
                .collect(),
            network_interfaces: (config.nets.iter().enumerate())
                .map(|(index, net)| NetworkInterface::of(net, index))
                .collect(),
            vsock: config.vsock.as_ref().map(|vsock| Vsock {
                guest_cid: vsock.cid,
                uds_path: vsock.uds_path.clone(),
                vsock_id: None,
            }),
            pmem: config.pmems.iter().enumerate().map(|(index, pmem)| Pmem::of(pmem, index)).collect(),
            balloon: config.balloon.as_ref().map(Balloon::of),
            entropy: config.rng.as_ref().map(|rng| Entropy {
                rate_limiter: Some(rng.rate_limiter).filter(|limits| *limits != Default::default()),
            }),
            serial: match &config.serial {
                SerialConfig::File(path) => {
                    Some(Serial { serial_out_path: Some(path.clone()), rate_limiter: None })
                }
                _ => None,
            },
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drive(text: &str) -> Drive {
        serde_json::from_str(text).unwrap()
    }

    const ROOT: &str = r#"{"drive_id": "root", "path_on_host": "r", "is_root_device": true}"#;
    const DATA: &str = r#"{"drive_id": "data", "path_on_host": "d", "is_root_device": false}"#;

    #[test]
    fn the_root_device_is_the_first_disk_whenever_it_is_named() {
        let mut description = Description::default();
        description.put_drive(drive(DATA)).unwrap();
        description.put_drive(drive(ROOT)).unwrap();
        let order = |d: &Description| d.drives.iter().map(|d| d.drive_id.clone()).collect::<Vec<_>>();
        assert_eq!(order(&description), ["root", "data"]);
        let pmem = serde_json::from_str(r#"{"id": "p", "path_on_host": "p", "root_device": true}"#).unwrap();
        assert_eq!(description.put_pmem(pmem), Err(ModelError::SecondRoot("root".to_owned())));
        let second = description.put_drive(drive(&DATA.replace("false", "true"))).unwrap_err();
        assert!(second.to_string().contains("\"root\" is the root device already"));
        description.put_drive(drive(&ROOT.replace("\"r\"", "\"other\""))).unwrap();
        assert_eq!(order(&description), ["root", "data"]);
    }

    #[test]
    fn a_file_of_firecrackers_becomes_a_machine() {
        let text = r#"{
            "boot-source": {"kernel_image_path": "vmlinux.bin", "boot_args": "console=ttyS0 panic=1", "initrd_path": null},
            "drives": [{"drive_id": "rootfs", "partuuid": null, "is_root_device": true, "cache_type": "Unsafe",
                "is_read_only": false, "path_on_host": "bionic.ext4", "io_engine": "Sync", "rate_limiter": null, "socket": null}],
            "machine-config": {"vcpu_count": 2, "mem_size_mib": 1024, "smt": false, "track_dirty_pages": false, "huge_pages": "None"},
            "cpu-config": null, "balloon": null, "vsock": null, "logger": null, "metrics": null, "mmds-config": null,
            "entropy": null, "network-interfaces": [{"iface_id": "eth0", "host_dev_name": "tap0", "guest_mac": "06:00:AC:10:00:02"}]
        }"#;
        let description = Description::parse(text).unwrap();
        let config = description.to_config(Engine::Soft).unwrap();
        assert_eq!((config.vcpus, config.memory_mib, config.serial), (2, 1024, SerialConfig::Stdio));
        assert_eq!(config.cmdline, "root=/dev/vda rw console=ttyS0 panic=1");
        assert_eq!((config.disks[0].id.as_str(), config.nets[0].id.as_str()), ("rootfs", "eth0"));
    }

    #[test]
    fn a_root_device_that_is_served_comes_behind_the_files() {
        let text = r#"{"boot-source": {"kernel_image_path": "k"}, "drives": [
            {"drive_id": "data", "path_on_host": "d", "is_root_device": false},
            {"drive_id": "root", "socket": "s", "is_root_device": true}]}"#;
        let config = Description::parse(text).unwrap().to_config(Engine::Auto).unwrap();
        assert_eq!(config.cmdline, "root=/dev/vdb rw");
        assert_eq!((config.disks.len(), config.vhost_user_disks.len()), (1, 1));
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for (text, wanted) in [
            (r#"{"cpu-config": "file"}"#, "CPU templates"),
            (r#"{"mmds-config": {}}"#, "metadata"),
            (r#"{"balloons": {}}"#, "unknown field `balloons`"),
            (r#"{"drives": [{"drive_id": "d", "is_root_device": true}]}"#, "either a path_on_host"),
            (r#"{"balloon": {"amount_mib": 129, "deflate_on_oom": true}}"#, "does not fit"),
        ] {
            let error = Description::parse(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        let nothing = Description::parse("{}").unwrap().to_config(Engine::Auto).unwrap_err();
        assert_eq!(nothing, ModelError::NoBootSource);
    }

    #[test]
    fn a_machine_is_described_as_it_was_asked_for() {
        let mut description = Description {
            boot_source: Some(BootSource { kernel_image_path: "k".into(), ..BootSource::default() }),
            vsock: Some(Vsock { guest_cid: 3, uds_path: "v".into(), vsock_id: None }),
            balloon: Some(Balloon { amount_mib: 7, deflate_on_oom: true, ..Balloon::default() }),
            entropy: Some(Entropy::default()),
            pmem: vec![Pmem { id: "p".into(), path_on_host: "p".into(), root_device: true, read_only: true }],
            serial: Some(Serial { serial_out_path: Some("out".into()), rate_limiter: None }),
            ..Description::default()
        };
        description.put_drive(drive(DATA)).unwrap();
        description.drives[0].is_read_only = Some(false);
        let config = description.to_config(Engine::Auto).unwrap();
        assert_eq!(Description::of(&config), description);
    }
}
