//! A device whose guest writes anything to its memory, or to its registers.

use std::io;
use std::sync::{Arc, Mutex};

use vm_memory::{Bytes as _, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::bytes::Bytes;
use super::file_of;
use super::wire::Wire;
use crate::bus::BusDevice;
use crate::interrupt::InterruptLine;
use crate::memory::GuestMemory;
use crate::virtio::attach::lock;
use crate::virtio::device::SharedDevice;
use crate::virtio::net::TapSource;
use crate::virtio::{
    Balloon, BalloonConfig, Block, DiskConfig, MmioTransport, Net, NetConfig, Pmem, RateLimiterConfig, Rng,
    SavedDevice, Vsock, VsockConfig,
};

/// Bytes of guest memory.
const RAM: usize = 1 << 20;
/// Where the queues lie, each in 64 KiB, and the buffers.
const QUEUES: u64 = 0x1_0000;
const BUFFERS: u64 = 0x8_0000;
/// Descriptors that are filled in.
const DESCRIPTORS: u64 = 16;

/// What kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A writable disk of 64 KiB.
    Block,
    /// A network card on a wire that always has a frame.
    Net,
    /// A socket device.
    Vsock,
    /// The entropy device.
    Rng,
    /// A balloon with all features.
    Balloon,
    /// Persistent memory.
    Pmem,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Block, Self::Net, Self::Vsock, Self::Rng, Self::Balloon, Self::Pmem];
}

struct NoLine;

impl InterruptLine for NoLine {
    fn trigger(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A device, and what must outlive it.
struct Made {
    device: SharedDevice,
    memory: GuestMemory,
    transport: MmioTransport,
    _socket: Option<tempfile::TempDir>,
}

fn make(kind: Kind) -> Option<Made> {
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), RAM)]).ok()?;
    let mut socket = None;
    let device: SharedDevice = match kind {
        Kind::Block => {
            let (_file, path) = file_of(&[0; 1 << 16])?;
            Arc::new(Mutex::new(Block::open(&DiskConfig::new(path)).ok()?))
        }
        Kind::Net => {
            let config = NetConfig::new(TapSource::Name("none".into()));
            Arc::new(Mutex::new(Net::new(&config, Wire(EventFd::new(EFD_NONBLOCK).ok()?)).ok()?))
        }
        Kind::Vsock => {
            let dir = tempfile::tempdir().ok()?;
            let device = Vsock::new(&VsockConfig::new(3, dir.path().join("s"))).ok()?;
            socket = Some(dir);
            Arc::new(Mutex::new(device))
        }
        Kind::Rng => Arc::new(Mutex::new(Rng::new(&RateLimiterConfig::default()).ok()?)),
        Kind::Balloon => {
            let config = BalloonConfig {
                amount_mib: 1,
                deflate_on_oom: true,
                stats_polling_interval_s: 1,
                free_page_reporting: true,
            };
            Arc::new(Mutex::new(Balloon::new(&config, 1).ok()?))
        }
        Kind::Pmem => {
            let (file, _) = file_of(&[0; 4096])?;
            Arc::new(Mutex::new(Pmem::new(1 << 32, 4096, Some(Arc::new(file)))))
        }
    };
    let transport = MmioTransport::new(device.clone(), memory.clone(), Arc::new(NoLine)).ok()?;
    Some(Made { device, memory, transport, _socket: socket })
}

impl Made {
    fn write(&mut self, register: u64, value: u32) {
        self.transport.write(register, &value.to_le_bytes());
    }

    fn read(&mut self, register: u64) -> u32 {
        let mut word = [0; 4];
        self.transport.read(register, &mut word);
        u32::from_le_bytes(word)
    }

    /// As a driver begins, with those of the offered features that `wanted` has; the number of queues.
    fn start(&mut self, wanted: u64) -> u32 {
        for status in [0, 1, 3] {
            self.write(0x70, status);
        }
        for (half, wanted) in [(0, wanted as u32), (1, (wanted >> 32) as u32 | 1)] {
            self.write(0x14, half);
            let offered = self.read(0x10);
            self.write(0x24, half);
            self.write(0x20, offered & wanted);
        }
        self.write(0x70, 0xb);
        let mut queues = 0;
        loop {
            self.write(0x30, queues);
            let size = self.read(0x34);
            if size == 0 {
                break;
            }
            self.write(0x38, size);
            let base = QUEUES * u64::from(queues + 1);
            for (register, address) in [(0x80, base), (0x90, base + 0x2000), (0xa0, base + 0x4000)] {
                self.write(register, address as u32);
                self.write(register + 4, 0);
            }
            self.write(0x44, 1);
            queues += 1;
        }
        self.write(0x70, 0xf);
        queues
    }

    /// Has the device look at all its queues, and do all else that it is asked for.
    fn serve(&self, queues: u32) {
        let mut device = lock(&self.device);
        for queue in 0..queues as usize {
            device.on_queue(queue);
        }
        drop(device.take_watches());
        let _ = (device.positions(), device.save(), device.counters());
    }
}

/// Fills a running device's queues and buffers with `bytes`, and has it serve them.
pub fn device(kind: Kind, bytes: &[u8]) {
    let Some(mut made) = make(kind) else { return };
    let mut bytes = Bytes(bytes);
    let queues = made.start(bytes.u64());
    while !bytes.is_empty() {
        for queue in 0..u64::from(queues) {
            let base = QUEUES * (queue + 1);
            for index in 0..DESCRIPTORS {
                let [address, rest] = [bytes.u64(), bytes.u64()];
                // Mostly in memory, and short.
                let address = if address >> 56 == 0xff { address } else { address & 0xf_ffff };
                let rest = if rest >> 56 == 0xff { rest } else { rest & 0x000f_0007_0000_3fff };
                let at = GuestAddress(base + 16 * index);
                let _ = made.memory.write_slice(&[address.to_le_bytes(), rest.to_le_bytes()].concat(), at);
            }
            let _ = made.memory.write_obj(bytes.u16() & 0x1f, GuestAddress(base + 0x2002));
            for entry in 0..8 {
                let _ = made.memory.write_obj(bytes.u16() & 0x1f, GuestAddress(base + 0x2004 + 2 * entry));
            }
        }
        let buffers: [u8; 256] = bytes.array();
        let _ = made.memory.write_slice(&buffers, GuestAddress(BUFFERS));
        made.serve(queues);
    }
    let saved = made.transport.save();
    if let Some(mut other) = make(kind) {
        let _ = other.transport.restore(saved);
        other.serve(queues);
    }
}

/// Accesses a device's registers as `bytes` say.
pub fn registers(kind: Kind, bytes: &[u8]) {
    let Some(mut made) = make(kind) else { return };
    let mut bytes = Bytes(bytes);
    while !bytes.is_empty() {
        let what = bytes.byte();
        let offset = u64::from(bytes.u16() & 0xfff);
        let value = bytes.u32().to_le_bytes();
        match what & 7 {
            0 => made.transport.read(offset, &mut [0; 8][..usize::from(what >> 3 & 7) + 1]),
            1 => made.transport.write(offset, &[value, value].concat()[..usize::from(what >> 3 & 7) + 1]),
            2 => {
                made.start(u64::from(what) << 24);
            }
            3 => made.serve(u32::from(what >> 3 & 7)),
            4 => drop(made.transport.save()),
            _ => made.transport.write(offset & 0x1fc, &value),
        }
    }
}

/// Restores every device from what `text` says it was.
pub(super) fn restore(text: &str) {
    for kind in Kind::ALL {
        if let (Ok(saved), Some(mut made)) = (serde_json::from_str::<SavedDevice>(text), make(kind)) {
            let _ = made.transport.restore(saved);
            made.serve(8);
        }
    }
}
