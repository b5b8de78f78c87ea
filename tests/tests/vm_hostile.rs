//! A hostile guest: no kernel, only code that writes garbage to every register of every device, to queues, rings and
//! ports. It may end itself and nothing else, whatever the seed.

#![expect(clippy::unwrap_used, reason = "part of tests")]

use std::fs::File;

use tests::{Engine, Host, kernel_of};

/// Machines for each engine, and seeds in each.
const MACHINES: u64 = 8;
const SEEDS: u64 = 250;
/// Another first seed than the usual one.
const FIRST_SEED: &str = "CARVE_HOSTILE_SEED";

/// Windows of virtio devices, and two where none is.
const WINDOWS: u64 = 11;
const WINDOW: u32 = 0xd000_0000;
/// RAM that rings and buffers lie in, if their addresses are sensible.
const PLAYGROUND: u32 = 0x20_0000;
/// Registers of the virtio-mmio transport (virtio 1.2, section 4.2.2).
const DRIVER_FEATURES: u32 = 0x20;
const DRIVER_FEATURES_SELECT: u32 = 0x24;
const QUEUE_SELECT: u32 = 0x30;
const QUEUE_SIZE: u32 = 0x38;
const QUEUE_READY: u32 = 0x44;
const QUEUE_NOTIFY: u32 = 0x50;
const STATUS: u32 = 0x70;
/// Descriptor table, available and used ring, low and high half each.
const QUEUE_ADDRESSES: [u32; 6] = [0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4];
/// Ports where a write ends the guest as it should: keyboard controller, sleep control.
const ENDS: [u16; 2] = [0x64, 0x600];
/// Ports that have something behind them.
const PORTS: [u16; 14] =
    [0x20, 0x21, 0x40, 0x43, 0x60, 0x61, 0x70, 0xa0, 0xa1, 0x3f0, 0x3f8, 0x3fb, 0x4d0, 0xcf8];

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn word(&mut self) -> u32 {
        u32::try_from(self.next() >> 32).unwrap()
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[usize::try_from(self.below(items.len() as u64)).unwrap()]
    }

    /// Small numbers, powers of two, all ones, anything.
    fn value(&mut self) -> u32 {
        match self.below(5) {
            0 => u32::try_from(self.below(20)).unwrap(),
            1 => 1 << self.below(32),
            2 => u32::MAX,
            _ => self.word(),
        }
    }

    /// A page of the playground.
    fn page(&mut self) -> u32 {
        PLAYGROUND + (u32::try_from(self.below(0x10)).unwrap() << 12)
    }

    /// Mostly an address in the playground.
    fn address(&mut self) -> u32 {
        match self.below(8) {
            0 => self.word(),
            1 => PLAYGROUND + u32::try_from(self.below(0x10_0000)).unwrap(),
            _ => self.page(),
        }
    }
}

/// 64-bit code.
#[derive(Default)]
struct Code(Vec<u8>);

impl Code {
    /// `mov eax, address; mov dword [rax], value`.
    fn store(&mut self, address: u32, value: u32) {
        self.0.push(0xb8);
        self.0.extend(address.to_le_bytes());
        self.0.extend([0xc7, 0x00]);
        self.0.extend(value.to_le_bytes());
    }

    /// A store of 1, 2 or 8 bytes, or a load of 4.
    fn odd_access(&mut self, address: u32, value: u32, kind: u64) {
        self.0.push(0xb8);
        self.0.extend(address.to_le_bytes());
        let [low, high, ..] = value.to_le_bytes();
        match kind {
            0 => self.0.extend([0xc6, 0x00, low]),
            1 => self.0.extend([0x66, 0xc7, 0x00, low, high]),
            2 => self.0.extend([&[0x48, 0xc7, 0x00][..], &value.to_le_bytes()].concat()),
            _ => self.0.extend([0x8b, 0x18]),
        }
    }

    /// `out dx, al` or `out dx, eax`, or reads.
    fn port(&mut self, port: u16, value: u32, kind: u64) {
        self.0.extend([0x66, 0xba]);
        self.0.extend(port.to_le_bytes());
        self.0.push(0xb8);
        self.0.extend(value.to_le_bytes());
        self.0.push([0xee, 0xef, 0xec, 0xed][usize::try_from(kind).unwrap()]);
    }

    /// Maps the windows: the page directory of the fourth GiB, with one large page in it.
    fn map_windows(&mut self) {
        self.store(0x18_0400, 0xd000_0083);
        self.store(0x18_0404, 0);
        self.store(0xa018, 0x18_0003);
        self.store(0xa01c, 0);
    }
}

/// What one seed does to one device, and to ports.
fn attack(code: &mut Code, random: &mut Random) {
    let window = WINDOW + (u32::try_from(random.below(WINDOWS)).unwrap() << 12);
    code.store(window + STATUS, 0);
    let is_plausible = random.below(3) > 0;
    if is_plausible {
        start_device(code, random, window);
    }
    for _ in 0..random.below(40) {
        match random.below(10) {
            0..3 => code.store(window + QUEUE_NOTIFY, random.value() & 7),
            3..6 => {
                let ring = PLAYGROUND + (u32::try_from(random.below(0x1_0000)).unwrap() & !3);
                let value = if random.below(2) == 0 { random.address() } else { random.value() };
                code.store(ring, value);
            }
            6 => code.store(window + (random.word() & 0xffc), random.value()),
            7 => {
                let (address, value, kind) =
                    (window + (random.word() & 0xfff), random.value(), random.below(4));
                code.odd_access(address, value, kind);
            }
            8 => code.store(window + (random.word() & 0x1fc), random.value()),
            _ => {
                let any = u16::try_from(random.word() >> 16).unwrap();
                let port = if random.below(4) == 0 { any } else { random.pick(&PORTS) };
                if !ENDS.contains(&port) {
                    code.port(port, random.value(), random.below(4));
                }
            }
        }
    }
}

/// Brings a device to life as a driver does, but for what is in its queues and where they are.
fn start_device(code: &mut Code, random: &mut Random, window: u32) {
    for status in [1, 3] {
        code.store(window + STATUS, status);
    }
    let low = if random.below(2) == 0 { 0 } else { random.value() & 0x3000_0000 };
    for (half, features) in [(0, low), (1, 1)] {
        code.store(window + DRIVER_FEATURES_SELECT, half);
        code.store(window + DRIVER_FEATURES, features);
    }
    code.store(window + STATUS, 0xb);
    for queue in 0..5 {
        code.store(window + QUEUE_SELECT, queue);
        code.store(
            window + QUEUE_SIZE,
            if random.below(16) == 0 { random.value() } else { 1 << random.below(7) },
        );
        for (register, is_high) in QUEUE_ADDRESSES.into_iter().zip([false, true].into_iter().cycle()) {
            let high = if random.below(64) == 0 { random.value() } else { 0 };
            let low = if random.below(32) == 0 { random.address() } else { random.page() };
            code.store(window + register, if is_high { high } else { low });
        }
        code.store(window + QUEUE_READY, 1);
    }
    code.store(window + STATUS, 0xf);
}

/// A guest that goes through `SEEDS` seeds from `first` on, then resets.
fn guest(first: u64) -> Vec<u8> {
    let mut code = Code::default();
    code.map_windows();
    for seed in first..first + SEEDS {
        // Neighbouring seeds begin alike.
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        attack(&mut code, &mut random);
    }
    code.port(0x64, 0xfe, 0);
    code.0.extend([0xeb, 0xfe]);
    assert!(code.0.len() < 0x8_0000, "the code must end below the page directory");
    kernel_of(&code.0)
}

fn attack_with(engine: Engine) {
    let Some(host) = Host::for_vms_with(engine) else { return };
    for name in ["disk", "image"] {
        File::create(host.path(name)).unwrap().set_len(4 << 20).unwrap();
    }
    let path = |name: &str| host.path(name).to_str().unwrap().to_owned();
    let (kernel, disk, pmem, vsock) = (path("kernel"), path("disk"), path("image"), path("vsock"));
    let (read_only, in_ring) = (format!("{disk},ro"), format!("{disk},ro,io=async,queues=2"));
    let console = format!("file={}", path("console"));
    let first = std::env::var(FIRST_SEED).ok().map_or(1, |seed| seed.parse().unwrap());
    let mut survived = 0;
    for machine in 0..MACHINES {
        // The tap is made with the machine, and goes with it.
        let seed = first + machine * SEEDS;
        std::fs::write(&kernel, guest(seed)).unwrap();
        let boot =
            ["vm", "boot", "--memory", "16", "--kernel", &kernel, "--disk", &disk, "--disk", &read_only];
        let more =
            ["--disk", &in_ring, "--net", "tap=tap0", "--vsock", &vsock, "--rng", "--balloon", "1,stats=1"];
        let most = ["--pmem", &pmem, "--console", &console, "--engine", engine.name()];
        let output = host.carve(&[&boot[..], &more, &most].concat()).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        // What it did to itself is its own affair: to overwrite its code with what a device reads, for one.
        let is_own_end = output.status.code() == Some(125) && complaint.contains("the guest died");
        assert!(
            output.status.success() || is_own_end,
            "seeds from {seed} on: {}\n{complaint}",
            output.status
        );
        assert!(complaint.lines().count() < 150, "a guest can fill the log:\n{complaint}");
        survived += u64::from(output.status.success());
    }
    assert!(survived >= MACHINES / 2, "{survived} of {MACHINES} guests came to their end");
}

#[test]
fn garbage_in_all_registers_ends_only_the_guest_under_kvm() {
    attack_with(Engine::Kvm);
}

#[test]
fn garbage_in_all_registers_ends_only_the_guest_under_the_software_engine() {
    attack_with(Engine::Soft);
}
