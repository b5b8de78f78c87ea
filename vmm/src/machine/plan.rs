//! What a machine would be, without making it: for people who want to see it first.

use serde::Serialize;

use super::builder::{self, BuildError};
use super::devices::{VirtioSpec, virtio_slots};
use super::platform;
use crate::boot;
use crate::config::{ConsoleConfig, Engine, SerialConfig, TapSource, VmConfig};
use crate::legacy::boot_timer::BOOT_TIMER_PORT;
use crate::legacy::{i8042, power, serial};
use crate::memory::{self, layout};
use crate::virtio::device::device_type;

/// Memory map, devices and command line of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What would run the guest's kernel.
    pub engine: Engine,
    /// What the guest finds where in its physical address space, in the order of the addresses.
    pub memory: Vec<Piece>,
    /// Devices, in the order of their addresses.
    pub devices: Vec<Slot>,
    /// The kernel learns of devices and vCPUs by ACPI.
    pub acpi: bool,
    /// The kernel's command line.
    pub cmdline: String,
}

/// A piece of guest physical address space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Piece {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// What is there.
    pub what: String,
}

/// A device in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// The address of its window, or its first I/O port.
    pub address: u64,
    /// Its input of the interrupt controllers, if it has one.
    pub interrupt: Option<u32>,
    /// The virtio device type (virtio 1.2, section 5), of virtio devices.
    pub device_type: Option<u32>,
    /// What it is.
    pub what: String,
}

impl Plan {
    /// Plans the machine that `config` describes. Its kernel is read; devices and `/dev/kvm` stay closed, but for a host
    /// whose KVM has to be asked what it can do.
    ///
    /// # Errors
    /// As for building the machine.
    pub fn of(config: &VmConfig) -> Result<Self, BuildError> {
        config.check()?;
        let memory = memory::map_memory(config.memory_bytes(), config.memory_backing, &config.pmems)?;
        let kernel = boot::load_kernel(&memory, config.memory_bytes(), &config.kernel)?;
        let acpi = config.acpi.for_kernel(kernel.header.is_some());
        let words = platform::cmdline(config.engine, &memory)?;
        let windows: Vec<_> = virtio_slots(config).map(|(_, base, irq)| (base, irq)).collect();
        let cmdline = builder::command_line(config, acpi, words, &windows);
        let mut pieces = Vec::new();
        let mut piece =
            |start: u64, end: u64, what: &str| pieces.push(Piece { start, end, what: what.into() });
        for range in layout::usable_ram(config.memory_bytes()) {
            piece(range.base, range.base + range.len, "RAM");
        }
        piece(layout::HIGH_RAM, kernel.end, "kernel (in RAM)");
        piece(layout::ACPI_TABLES, layout::HIGH_RAM, "tables: ACPI, generation id, MP table");
        for (_, base, _) in virtio_slots(config) {
            piece(base, base + layout::VIRTIO_MMIO_LEN, "virtio-mmio window");
        }
        piece(layout::IOAPIC.into(), u64::from(layout::IOAPIC) + 0x1000, "I/O APIC");
        piece(layout::LAPIC.into(), u64::from(layout::LAPIC) + 0x1000, "local APIC");
        for (image, pmem) in memory::images(&memory).zip(&config.pmems) {
            use vm_memory::GuestMemoryRegion;
            let start = image.start_addr().0;
            piece(start, start + image.len(), &format!("image {}", pmem.path.display()));
        }
        pieces.sort_by_key(|piece| (piece.start, std::cmp::Reverse(piece.end)));
        Ok(Self {
            engine: config.engine.on_this_host(),
            memory: pieces,
            devices: slots(config),
            acpi,
            cmdline: cmdline.as_str().to_owned(),
        })
    }
}

fn slots(config: &VmConfig) -> Vec<Slot> {
    let port = |address: u64, interrupt, what: &str| Slot {
        address,
        interrupt,
        device_type: None,
        what: what.to_owned(),
    };
    let mut slots = vec![
        port(i8042::PORTS, None, "port: keyboard controller, for its reset line"),
        port(BOOT_TIMER_PORT, None, "port: boot timer"),
        port(power::PORTS, None, "port: power control"),
    ];
    let serial = match &config.serial {
        SerialConfig::None => None,
        SerialConfig::Stdio => Some("the terminal".to_owned()),
        SerialConfig::Stderr => Some("standard error".to_owned()),
        SerialConfig::File(path) => Some(path.display().to_string()),
    };
    slots.extend(
        serial.map(|to| port(serial::PORTS, Some(serial::IRQ), &format!("port: serial port to {to}"))),
    );
    slots.sort_by_key(|slot| slot.address);
    slots.extend(virtio_slots(config).map(|(spec, address, irq)| {
        let (device_type, what) = describe(&spec);
        Slot { address, interrupt: Some(irq), device_type: Some(device_type), what }
    }));
    slots
}

fn describe(spec: &VirtioSpec<'_>) -> (u32, String) {
    match spec {
        VirtioSpec::Disk(disk) => {
            let access = if disk.read_only { ", read-only" } else { "" };
            (device_type::BLOCK, format!("disk {}{access}", disk.path.display()))
        }
        VirtioSpec::Net(net) => {
            let tap = match &net.tap {
                TapSource::Name(name) => name.clone(),
                TapSource::Fd(number) => format!("in descriptor {number}"),
            };
            (device_type::NET, format!("network card on tap {tap}"))
        }
        VirtioSpec::Vsock(vsock) => {
            (device_type::VSOCK, format!("sockets at {}, context id {}", vsock.uds_path.display(), vsock.cid))
        }
        VirtioSpec::Balloon(balloon) => {
            (device_type::BALLOON, format!("balloon of {} MiB", balloon.amount_mib))
        }
        VirtioSpec::Rng(_) => (device_type::RNG, "entropy".to_owned()),
        VirtioSpec::Pmem(pmem, _) => {
            let access = if pmem.read_only { ", read-only" } else { "" };
            (device_type::PMEM, format!("persistent memory {}{access}", pmem.path.display()))
        }
        VirtioSpec::VhostUserDisk(disk) => {
            (device_type::BLOCK, format!("disk served at {}", disk.socket.display()))
        }
        VirtioSpec::Fs(fs) => {
            (device_type::FS, format!("directory {:?} served at {}", fs.tag, fs.socket.display()))
        }
        VirtioSpec::Console(console) => {
            let to = match console {
                ConsoleConfig::Stdio => "the terminal".to_owned(),
                ConsoleConfig::Socket(path) => format!("the socket {}", path.display()),
                ConsoleConfig::File(path) => path.display().to_string(),
            };
            (device_type::CONSOLE, format!("console to {to}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::config::{DiskConfig, NetConfig, VsockConfig};

    /// An ELF file whose one segment is a few bytes at 1 MiB.
    fn kernel() -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        file.extend(2u16.to_le_bytes());
        file.extend(62u16.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        for value in [0x10_0000u64, 64, 0] {
            file.extend(value.to_le_bytes());
        }
        file.extend(0u32.to_le_bytes());
        for value in [64u16, 56, 1, 0, 0, 0] {
            file.extend(value.to_le_bytes());
        }
        file.extend([1u32, 7].iter().flat_map(|word| word.to_le_bytes()));
        for value in [120u64, 0x10_0000, 0x10_0000, 4, 4, 4] {
            file.extend(value.to_le_bytes());
        }
        file.extend([0xeb, 0xfe, 0, 0]);
        file
    }

    #[test]
    fn a_plan_says_what_is_where() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kernel");
        std::fs::write(&path, kernel()).unwrap();
        let mut config = VmConfig::new(path, 64);
        config.engine = Engine::Soft;
        config.disks = vec![DiskConfig { read_only: true, ..DiskConfig::new("root.img") }];
        config.nets = vec![NetConfig::new(TapSource::Name("tap0".into()))];
        config.vsock = Some(VsockConfig::new(3, "v.sock"));
        config.serial = SerialConfig::Stdio;
        config.cmdline = "root=/dev/vda".to_owned();
        let plan = Plan::of(&config).unwrap();
        let memory: String =
            plan.memory.iter().map(|p| format!("{:#x}..{:#x} {}\n", p.start, p.end, p.what)).collect();
        expect![[r#"
            0x0..0x9fc00 RAM
            0xe0000..0x100000 tables: ACPI, generation id, MP table
            0x100000..0x4000000 RAM
            0x100000..0x100004 kernel (in RAM)
            0xd0000000..0xd0001000 virtio-mmio window
            0xd0001000..0xd0002000 virtio-mmio window
            0xd0002000..0xd0003000 virtio-mmio window
            0xfec00000..0xfec01000 I/O APIC
            0xfee00000..0xfee01000 local APIC
        "#]]
        .assert_eq(&memory);
        let devices: String = (plan.devices.iter())
            .map(|d| format!("{:#x} {:?} {:?} {}\n", d.address, d.interrupt, d.device_type, d.what))
            .collect();
        expect![[r#"
            0x60 None None port: keyboard controller, for its reset line
            0x3f0 None None port: boot timer
            0x3f8 Some(4) None port: serial port to the terminal
            0x600 None None port: power control
            0xd0000000 Some(5) Some(2) disk root.img, read-only
            0xd0001000 Some(6) Some(1) network card on tap tap0
            0xd0002000 Some(7) Some(19) sockets at v.sock, context id 3
        "#]]
        .assert_eq(&devices);
        expect!["reboot=k panic=-1 random.trust_cpu=on i8042.noaux i8042.nokbd acpi=off console=ttyS0 8250.nr_uarts=1 mitigations=off noreplace-smp percpu_alloc=page rodata=off virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6 virtio_mmio.device=4K@0xd0002000:7 root=/dev/vda"].assert_eq(&plan.cmdline);
    }

    #[test]
    fn a_machine_that_cannot_be_has_no_plan() {
        assert!(Plan::of(&VmConfig::new("/nowhere", 64)).is_err());
        assert!(Plan::of(&VmConfig::new("/nowhere", 1)).unwrap_err().to_string().contains("1 MiB"));
    }
}
