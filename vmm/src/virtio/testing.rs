//! The driver's side of virtio, for tests: it speaks to a device through the transport's registers and
//! through rings in guest memory, exactly as a guest does, and runs the device's event loop by hand.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use vm_memory::{Bytes, GuestAddress};

use crate::bus::BusDevice;
use crate::interrupt::InterruptLine;
use crate::memory::GuestMemory;
use crate::virtio::attach::EventLoop;
use crate::virtio::device::{SharedDevice, VirtioDevice};
use crate::virtio::mmio::MmioTransport;

pub(crate) const MEMORY_SIZE: u64 = 0x100_0000;
const BUFFERS: u64 = 0x10_0000;
pub(crate) const NEXT: u16 = VRING_DESC_F_NEXT as u16;
pub(crate) const WRITE: u16 = VRING_DESC_F_WRITE as u16;

/// An interrupt line that counts.
#[derive(Debug, Default)]
pub(crate) struct CountingLine(AtomicUsize);

impl CountingLine {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl InterruptLine for CountingLine {
    fn trigger(&self) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// A descriptor as the driver writes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptor {
    pub(crate) address: u64,
    pub(crate) length: u32,
    pub(crate) flags: u16,
    pub(crate) next: u16,
}

/// A buffer of a well-formed chain.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Buffer {
    Readable(u64, u32),
    Writable(u64, u32),
}

#[derive(Debug)]
struct Ring {
    base: u64,
    size: u16,
    next_descriptor: u16,
    available: u16,
    used: u16,
}

impl Ring {
    fn available_ring(&self) -> u64 {
        self.base + 0x2000
    }
    fn used_ring(&self) -> u64 {
        self.base + 0x4000
    }
}

pub(crate) struct Driver {
    pub(crate) memory: GuestMemory,
    pub(crate) transport: MmioTransport,
    pub(crate) interrupts: Arc<CountingLine>,
    pub(crate) events: EventLoop,
    rings: Vec<Ring>,
    next_buffer: u64,
}

impl Driver {
    /// A driver that has not touched the device yet.
    pub(crate) fn new(device: impl VirtioDevice + 'static) -> Self {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_SIZE as usize)]).unwrap();
        Self::sharing(Arc::new(Mutex::new(device)), memory)
    }

    /// A driver of a device that the test has a hand on too, in the first [`MEMORY_SIZE`] bytes of `memory`.
    pub(crate) fn sharing(device: SharedDevice, memory: GuestMemory) -> Self {
        let interrupts = Arc::new(CountingLine::default());
        let line: Arc<dyn InterruptLine> = interrupts.clone();
        let transport = MmioTransport::new(device, memory.clone(), line).unwrap();
        let mut events = EventLoop::new().unwrap();
        transport.attach(&mut events).unwrap();
        Self { memory, transport, interrupts, events, rings: Vec::new(), next_buffer: BUFFERS }
    }

    /// A driver that has taken all features but the event index and has the device running.
    pub(crate) fn started(device: impl VirtioDevice + 'static) -> Self {
        Self::started_sharing(Arc::new(Mutex::new(device)))
    }

    /// The same, of a device that the test has a hand on too.
    pub(crate) fn started_sharing(device: SharedDevice) -> Self {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_SIZE as usize)]).unwrap();
        let mut driver = Self::sharing(device, memory);
        let features = driver.offered() & !(1 << VIRTIO_RING_F_EVENT_IDX);
        driver.start(features);
        assert_eq!(driver.read32(0x70), 0xf);
        driver
    }

    /// Goes on with another device, to which what a snapshot keeps of this one is restored.
    pub(crate) fn restored_on(self, device: SharedDevice) -> Self {
        let saved = self.transport.save();
        let mut driver = Self::sharing(device, self.memory);
        driver.transport.restore(saved).unwrap();
        Self { rings: self.rings, next_buffer: self.next_buffer, ..driver }
    }

    pub(crate) fn read32(&mut self, offset: u64) -> u32 {
        let mut word = [0xa5; 4];
        self.transport.read(offset, &mut word);
        u32::from_le_bytes(word)
    }

    pub(crate) fn write32(&mut self, offset: u64, value: u32) {
        self.transport.write(offset, &value.to_le_bytes());
    }

    pub(crate) fn offered(&mut self) -> u64 {
        self.write32(0x14, 0);
        let low = self.read32(0x10);
        self.write32(0x14, 1);
        u64::from(self.read32(0x10)) << 32 | u64::from(low)
    }

    /// The initialisation sequence of virtio 1.2, section 3.1.1.
    pub(crate) fn start(&mut self, features: u64) {
        self.negotiate(features);
        self.set_up_queues();
        self.write32(0x70, 0xf);
        self.run();
    }

    pub(crate) fn negotiate(&mut self, features: u64) {
        self.write32(0x70, 0);
        self.write32(0x70, 1);
        self.write32(0x70, 3);
        self.write32(0x24, 0);
        self.write32(0x20, (features & 0xffff_ffff) as u32);
        self.write32(0x24, 1);
        self.write32(0x20, (features >> 32) as u32);
        self.write32(0x70, 0xb);
    }

    pub(crate) fn set_up_queues(&mut self) {
        self.rings.clear();
        for index in 0.. {
            self.write32(0x30, index);
            let size = self.read32(0x34);
            if size == 0 {
                break;
            }
            let ring = Ring {
                base: 0x1_0000 * u64::from(index + 1),
                size: size as u16,
                next_descriptor: 0,
                available: 0,
                used: 0,
            };
            self.memory.write_slice(&vec![0; 0x8000], GuestAddress(ring.base)).unwrap();
            self.write32(0x38, size);
            for (offset, address) in
                [(0x80, ring.base), (0x90, ring.available_ring()), (0xa0, ring.used_ring())]
            {
                self.write32(offset, (address & 0xffff_ffff) as u32);
                self.write32(offset + 4, (address >> 32) as u32);
            }
            self.write32(0x44, 1);
            assert_eq!(self.read32(0x44), 1);
            self.rings.push(ring);
        }
    }

    /// Guest memory for a buffer. Wraps around, so old buffers are reused in long tests.
    pub(crate) fn allocate(&mut self, length: u32) -> u64 {
        if self.next_buffer + u64::from(length) > MEMORY_SIZE {
            self.next_buffer = BUFFERS;
        }
        let address = self.next_buffer;
        self.next_buffer += u64::from(length).next_multiple_of(16);
        address
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> u64 {
        let address = self.allocate(bytes.len() as u32);
        self.memory.write_slice(bytes, GuestAddress(address)).unwrap();
        address
    }

    pub(crate) fn get(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    pub(crate) fn write_descriptor(&self, queue: usize, index: u16, descriptor: Descriptor) {
        let address = GuestAddress(self.rings[queue].base + 16 * u64::from(index));
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&descriptor.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&descriptor.length.to_le_bytes());
        bytes[12..14].copy_from_slice(&descriptor.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&descriptor.next.to_le_bytes());
        self.memory.write_slice(&bytes, address).unwrap();
    }

    /// Makes the chain that starts at descriptor `head` available.
    pub(crate) fn offer(&mut self, queue: usize, head: u16) {
        let ring = &mut self.rings[queue];
        let slot = u64::from(ring.available % ring.size);
        self.memory.write_obj(head, GuestAddress(ring.available_ring() + 4 + 2 * slot)).unwrap();
        ring.available = ring.available.wrapping_add(1);
        self.memory.write_obj(ring.available, GuestAddress(ring.available_ring() + 2)).unwrap();
    }

    /// Sets the available index to anything.
    pub(crate) fn set_available_index(&self, queue: usize, index: u16) {
        self.memory.write_obj(index, GuestAddress(self.rings[queue].available_ring() + 2)).unwrap();
    }

    /// Asks for an interrupt only once entry `index` of the used ring is filled.
    pub(crate) fn set_used_event(&self, queue: usize, index: u16) {
        let ring = &self.rings[queue];
        let address = ring.available_ring() + 4 + 2 * u64::from(ring.size);
        self.memory.write_obj(index, GuestAddress(address)).unwrap();
    }

    /// The device wants to be notified once entry `index` of the available ring is filled.
    pub(crate) fn available_event(&self, queue: usize) -> u16 {
        let ring = &self.rings[queue];
        let address = ring.used_ring() + 4 + 8 * u64::from(ring.size);
        self.memory.read_obj(GuestAddress(address)).unwrap()
    }

    /// Queues a well-formed chain; returns its head.
    pub(crate) fn queue(&mut self, queue: usize, buffers: &[Buffer]) -> u16 {
        let head = self.rings[queue].next_descriptor;
        for (position, buffer) in buffers.iter().enumerate() {
            let ring = &mut self.rings[queue];
            let index = ring.next_descriptor;
            ring.next_descriptor = (index + 1) % ring.size;
            let next = if position + 1 < buffers.len() { NEXT } else { 0 };
            let (address, length, write) = match *buffer {
                Buffer::Readable(address, length) => (address, length, 0),
                Buffer::Writable(address, length) => (address, length, WRITE),
            };
            let following = self.rings[queue].next_descriptor;
            self.write_descriptor(
                queue,
                index,
                Descriptor { address, length, flags: next | write, next: following },
            );
        }
        self.offer(queue, head);
        head
    }

    pub(crate) fn notify(&mut self, queue: usize) {
        self.write32(0x50, queue as u32);
        self.run();
    }

    /// Lets the event loop work until there is nothing left to do.
    pub(crate) fn run(&mut self) {
        for _ in 0..10_000 {
            if self.events.run_with_timeout(0).unwrap() == 0 {
                return;
            }
        }
        panic!("the event loop does not come to rest");
    }

    /// The chains returned since this was last asked: head and bytes written.
    pub(crate) fn used(&mut self, queue: usize) -> Vec<(u16, u32)> {
        let ring = &mut self.rings[queue];
        let end: u16 = self.memory.read_obj(GuestAddress(ring.used_ring() + 2)).unwrap();
        let mut returned = Vec::new();
        while ring.used != end {
            let slot = u64::from(ring.used % ring.size);
            let entry = ring.used_ring() + 4 + 8 * slot;
            let head: u32 = self.memory.read_obj(GuestAddress(entry)).unwrap();
            returned.push((head as u16, self.memory.read_obj(GuestAddress(entry + 4)).unwrap()));
            ring.used = ring.used.wrapping_add(1);
        }
        returned
    }
}

/// Hostile input for property tests: descriptors that point anywhere, with any flags.
pub(crate) mod hostile {
    use proptest::prelude::*;

    use super::{Descriptor, Driver, MEMORY_SIZE};

    fn descriptor() -> impl Strategy<Value = Descriptor> {
        let address = prop_oneof![
            4 => 0x10_0000..MEMORY_SIZE,
            1 => MEMORY_SIZE - 64..MEMORY_SIZE + 64,
            1 => any::<u64>(),
        ];
        let length = prop_oneof![4 => 0u32..64, 2 => 0u32..0x1_1000, 1 => any::<u32>()];
        // Mostly NEXT and WRITE, at times INDIRECT.
        let flags = prop_oneof![6 => 0u16..4, 1 => 0u16..8];
        let next = prop_oneof![6 => 0u16..16, 1 => any::<u16>()];
        (address, length, flags, next).prop_map(|(address, length, flags, next)| Descriptor {
            address,
            length,
            flags,
            next,
        })
    }

    /// Sixteen descriptors, up to eight heads, and bytes for the start of the buffer area.
    pub(crate) fn requests() -> impl Strategy<Value = (Vec<Descriptor>, Vec<u16>, Vec<u8>)> {
        let heads = prop::collection::vec(prop_oneof![8 => 0u16..16, 1 => any::<u16>()], 1..8);
        (prop::collection::vec(descriptor(), 16), heads, prop::collection::vec(any::<u8>(), 64))
    }

    /// Queues them and lets the device work. Returns how many chains came back.
    pub(crate) fn run(
        driver: &mut Driver,
        queue: usize,
        (descriptors, heads, bytes): &(Vec<Descriptor>, Vec<u16>, Vec<u8>),
    ) -> usize {
        driver.put(bytes);
        for (index, descriptor) in (0..).zip(descriptors) {
            driver.write_descriptor(queue, index, *descriptor);
        }
        for head in heads {
            driver.offer(queue, *head);
        }
        driver.notify(queue);
        driver.used(queue).len()
    }
}
