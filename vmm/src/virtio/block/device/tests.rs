//! The block device against a driver.

use std::io::{Read, Seek, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
};
use virtio_bindings::virtio_ring::VRING_DESC_F_INDIRECT;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::virtio::testing::Buffer::{Readable, Writable};
use crate::virtio::testing::{Descriptor, Driver, MEMORY_SIZE, NEXT, WRITE};

mod any_requests;
mod limits;
mod ranges;
mod ring;

const SECTORS: u64 = 64;
const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;
const NO_ANSWER: u8 = 0xee;

struct Fixture {
    driver: Driver,
    block: Arc<Mutex<Block>>,
    file: tempfile::NamedTempFile,
}

fn disk(read_only: bool) -> Fixture {
    disk_with(|config| config.read_only = read_only)
}

fn disk_with(change: impl FnOnce(&mut DiskConfig)) -> Fixture {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for sector in 0..SECTORS {
        file.write_all(&[sector as u8; 512]).unwrap();
    }
    let mut config =
        DiskConfig { id: "layer-0".into(), io_engine: IoEngine::Sync, ..DiskConfig::new(file.path()) };
    change(&mut config);
    let block = Arc::new(Mutex::new(Block::open(&config).unwrap()));
    Fixture { driver: Driver::started_sharing(block.clone()), block, file }
}

fn header(kind: u32, sector: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&kind.to_le_bytes());
    bytes[8..].copy_from_slice(&sector.to_le_bytes());
    bytes
}

/// An indirect table for a read of one sector: header, data, and the status after them.
fn indirect_read(driver: &mut Driver, header: u64, buffer: u64) -> u64 {
    let table = driver.allocate(48);
    let entries = [(header, 16, NEXT, 1u16), (buffer, 512, NEXT | WRITE, 2), (buffer + 512, 1, WRITE, 0)];
    for (position, (address, length, flags, next)) in (0..).zip(entries) {
        let at = table + 16 * position;
        driver.memory.write_obj(address, GuestAddress(at)).unwrap();
        driver.memory.write_obj(length, GuestAddress(at + 8)).unwrap();
        driver.memory.write_obj(flags, GuestAddress(at + 12)).unwrap();
        driver.memory.write_obj(next, GuestAddress(at + 14)).unwrap();
    }
    table
}

impl Fixture {
    /// Runs one request with the usual framing; returns status, bytes used, and the data buffer.
    fn request(&mut self, kind: u32, sector: u64, data: crate::virtio::testing::Buffer) -> (u8, u32) {
        self.request_on(0, kind, sector, data)
    }

    fn request_on(
        &mut self,
        queue: usize,
        kind: u32,
        sector: u64,
        data: crate::virtio::testing::Buffer,
    ) -> (u8, u32) {
        let header = self.driver.put(&header(kind, sector));
        let status = self.driver.put(&[NO_ANSWER]);
        let head = self.driver.queue(queue, &[Readable(header, 16), data, Writable(status, 1)]);
        self.driver.notify(queue);
        let used = self.used(queue, 1);
        assert_eq!(used[0].0, head);
        (self.driver.get(status, 1)[0], used[0].1)
    }

    /// Runs a request whose data is a list of ranges: sector, sectors, flags.
    fn ranges(&mut self, kind: u32, ranges: &[(u64, u32, u32)]) -> u8 {
        let mut bytes = Vec::new();
        for (sector, sectors, flags) in ranges {
            bytes.extend(sector.to_le_bytes());
            bytes.extend(sectors.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
        }
        let length = bytes.len() as u32;
        let data = self.driver.put(&bytes);
        let (status, used) = self.request(kind, 0, Readable(data, length));
        assert_eq!(used, 1);
        status
    }

    /// The chains returned, once there are `count` of them.
    fn used(&mut self, queue: usize, count: usize) -> Vec<(u16, u32)> {
        let mut used = self.driver.used(queue);
        let start = Instant::now();
        while used.len() < count {
            // It also returns early, with no event, when the kernel has completed a request for this thread.
            self.driver.events.run_with_timeout(1000).unwrap();
            assert!(start.elapsed() < Duration::from_secs(60), "{} of {count} came back", used.len());
            used.extend(self.driver.used(queue));
        }
        assert_eq!(used.len(), count);
        used
    }

    fn counter(&self, name: &str) -> u64 {
        let counters = self.block.lock().unwrap().counters();
        counters.into_iter().find(|counter| counter.name == name).unwrap().value
    }

    fn sector(&mut self, sector: u64) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        self.file.seek(std::io::SeekFrom::Start(sector * 512)).unwrap();
        self.file.read_exact(&mut bytes).unwrap();
        bytes
    }
}

#[test]
fn describes_itself() {
    for read_only in [false, true] {
        let mut fixture = disk(read_only);
        assert_eq!(fixture.driver.read32(0x100), SECTORS as u32);
        assert_eq!(fixture.driver.read32(0x10c), 254);
        assert_eq!(fixture.driver.read32(0x114), 512);
        let offered = fixture.driver.offered();
        assert_eq!(offered & (1 << VIRTIO_BLK_F_RO) != 0, read_only);
        assert_ne!(offered & (1 << VIRTIO_BLK_F_FLUSH), 0);
    }
}

#[test]
fn reads_sectors() {
    let mut fixture = disk(true);
    let buffer = fixture.driver.allocate(1024);
    assert_eq!(fixture.request(VIRTIO_BLK_T_IN, 3, Writable(buffer, 1024)), (OK, 1025));
    assert_eq!(fixture.driver.get(buffer, 1024), [[3; 512], [4; 512]].concat());
}

#[test]
fn writes_sectors() {
    let mut fixture = disk(false);
    let buffer = fixture.driver.put(&[0xab; 512]);
    assert_eq!(fixture.request(VIRTIO_BLK_T_OUT, 63, Readable(buffer, 512)), (OK, 1));
    assert_eq!(fixture.sector(63), [0xab; 512]);
    assert_eq!(fixture.sector(62), [62; 512]);
}

#[test]
fn flushes() {
    for read_only in [false, true] {
        let mut fixture = disk(read_only);
        let header = fixture.driver.put(&header(VIRTIO_BLK_T_FLUSH, 0));
        let status = fixture.driver.put(&[NO_ANSWER]);
        fixture.driver.queue(0, &[Readable(header, 16), Writable(status, 1)]);
        fixture.driver.notify(0);
        assert_eq!(fixture.driver.get(status, 1), [OK]);
    }
}

#[test]
fn gives_its_id_padded_with_zeros() {
    let mut fixture = disk(true);
    let buffer = fixture.driver.put(&[0xff; 20]);
    assert_eq!(fixture.request(VIRTIO_BLK_T_GET_ID, 0, Writable(buffer, 20)), (OK, 21));
    assert_eq!(fixture.driver.get(buffer, 20), *b"layer-0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(fixture.request(VIRTIO_BLK_T_GET_ID, 0, Writable(buffer, 4)), (OK, 5));
}

#[test]
fn refuses_what_it_must() {
    let cases = [
        ("beyond the end", VIRTIO_BLK_T_IN, SECTORS, 512, IOERR),
        ("across the end", VIRTIO_BLK_T_IN, SECTORS - 1, 1024, IOERR),
        ("sector that overflows", VIRTIO_BLK_T_IN, u64::MAX, 512, IOERR),
        ("no whole sectors", VIRTIO_BLK_T_IN, 0, 511, IOERR),
        ("unknown type", 99, 0, 512, UNSUPP),
        ("secure erase, not offered", 14, 0, 512, UNSUPP),
        ("discard of nothing", 11, 0, 512, IOERR),
    ];
    for (name, kind, sector, length, wanted) in cases {
        let mut fixture = disk(false);
        let buffer = fixture.driver.allocate(2048);
        assert_eq!(fixture.request(kind, sector, Writable(buffer, length)), (wanted, 1), "{name}");
    }
}

#[test]
fn a_read_only_disk_refuses_writes() {
    let mut fixture = disk(true);
    let buffer = fixture.driver.put(&[0xab; 512]);
    assert_eq!(fixture.request(VIRTIO_BLK_T_OUT, 1, Readable(buffer, 512)), (IOERR, 1));
    assert_eq!(fixture.sector(1), [1; 512]);
}

#[test]
fn data_outside_of_memory_is_an_error_of_that_request_only() {
    let mut fixture = disk(false);
    for address in [MEMORY_SIZE, MEMORY_SIZE - 256, u64::MAX - 100] {
        assert_eq!(fixture.request(VIRTIO_BLK_T_IN, 0, Writable(address, 512)), (IOERR, 1), "{address:#x}");
        assert_eq!(fixture.request(VIRTIO_BLK_T_OUT, 0, Readable(address, 512)), (IOERR, 1), "{address:#x}");
    }
    let buffer = fixture.driver.allocate(512);
    assert_eq!(fixture.request(VIRTIO_BLK_T_IN, 0, Writable(buffer, 512)), (OK, 513));
}

#[test]
fn framing_does_not_matter() {
    let mut fixture = disk(false);
    let driver = &mut fixture.driver;
    let header = driver.put(&header(VIRTIO_BLK_T_IN, 5));
    let buffer = driver.put(&[NO_ANSWER; 513]);
    driver.queue(
        0,
        &[
            Readable(header, 3),
            Readable(header + 3, 13),
            Writable(buffer, 100),
            Writable(0, 0),
            Writable(buffer + 100, 413),
        ],
    );
    driver.notify(0);
    assert_eq!(driver.used(0)[0].1, 513);
    assert_eq!(driver.get(buffer, 513), [vec![5; 512], vec![OK]].concat());
}

#[test]
fn indirect_tables_work() {
    let mut fixture = disk(false);
    let driver = &mut fixture.driver;
    let header = driver.put(&header(VIRTIO_BLK_T_IN, 5));
    let buffer = driver.put(&[NO_ANSWER; 513]);
    let table = indirect_read(driver, header, buffer);
    let flags = VRING_DESC_F_INDIRECT as u16;
    driver.write_descriptor(0, 0, Descriptor { address: table, length: 48, flags, next: 0 });
    driver.offer(0, 0);
    driver.notify(0);
    assert_eq!(driver.used(0), [(0, 513)]);
    assert_eq!(driver.get(buffer + 512, 1), [OK]);
}

#[test]
fn malformed_chains_come_back_and_do_no_harm() {
    let mut fixture = disk(false);
    let driver = &mut fixture.driver;
    let header = driver.put(&header(VIRTIO_BLK_T_OUT, 0));
    let status = driver.put(&[NO_ANSWER]);
    let data = driver.put(&[0xab; 512]);
    let d = |address, length, flags, next| Descriptor { address, length, flags, next };
    // Each case: descriptors from index 0 on, and the status expected (NO_ANSWER where there is no place for
    // it).
    let cases: [(&str, Vec<Descriptor>, u8); 9] = [
        ("no status byte", vec![d(header, 16, NEXT, 1), d(data, 512, 0, 0)], NO_ANSWER),
        ("write-only header", vec![d(header, 16, NEXT | WRITE, 1), d(status, 1, WRITE, 0)], IOERR),
        ("short header", vec![d(header, 15, NEXT, 1), d(status, 1, WRITE, 0)], IOERR),
        ("zero-length status", vec![d(header, 16, NEXT, 1), d(status, 0, WRITE, 0)], NO_ANSWER),
        ("zero-length chain", vec![d(header, 0, 0, 0)], NO_ANSWER),
        ("points at itself", vec![d(header, 16, NEXT, 0)], NO_ANSWER),
        ("loops back", vec![d(header, 16, NEXT, 1), d(status, 1, NEXT | WRITE, 0)], IOERR),
        ("next outside of the table", vec![d(header, 16, NEXT, 5000)], NO_ANSWER),
        (
            "readable after writable",
            vec![d(header, 16, NEXT, 1), d(status, 1, NEXT | WRITE, 2), d(data, 512, 0, 0)],
            IOERR,
        ),
    ];
    for (name, descriptors, wanted) in cases {
        driver.memory.write_obj(NO_ANSWER, GuestAddress(status)).unwrap();
        for (index, descriptor) in (0..).zip(descriptors) {
            driver.write_descriptor(0, index, descriptor);
        }
        driver.offer(0, 0);
        driver.notify(0);
        let used = driver.used(0);
        assert_eq!(used, [(0, u32::from(wanted != NO_ANSWER))], "{name}");
        assert_eq!(driver.get(status, 1), [wanted], "{name}");
    }
    assert_eq!(driver.read32(0x70), 0xf, "the device lives on");
    assert_eq!(fixture.sector(0), [0; 512], "nothing was written");
}

#[test]
fn works_again_after_a_reset() {
    let mut fixture = disk(false);
    fixture.driver.write32(0x70, 0);
    fixture.driver.run();
    let features = fixture.driver.offered();
    fixture.driver.start(features & !(1 << 29));
    let buffer = fixture.driver.allocate(512);
    assert_eq!(fixture.request(VIRTIO_BLK_T_IN, 9, Writable(buffer, 512)), (OK, 513));
}

#[test]
fn a_full_queue_is_served_in_one_go() {
    let mut fixture = disk(false);
    let driver = &mut fixture.driver;
    let header = driver.put(&header(VIRTIO_BLK_T_FLUSH, 0));
    let status = driver.put(&[NO_ANSWER]);
    for _ in 0..128 {
        driver.queue(0, &[Readable(header, 16), Writable(status, 1)]);
    }
    driver.notify(0);
    assert_eq!(driver.used(0).len(), 128);
    assert_eq!(driver.interrupts.count(), 1);
}

#[test]
fn every_queue_is_served_and_a_driver_may_leave_the_last_ones_out() {
    let mut fixture = disk_with(|config| config.queues = 4);
    assert_eq!(fixture.driver.read32(0x122) & 0xffff, 4);
    assert_ne!(fixture.driver.offered() & (1 << VIRTIO_BLK_F_MQ), 0);
    let buffer = fixture.driver.allocate(512);
    for queue in 0..4 {
        let read = fixture.request_on(queue, VIRTIO_BLK_T_IN, queue as u64, Writable(buffer, 512));
        assert_eq!(read, (OK, 513));
        assert_eq!(fixture.driver.get(buffer, 512), [queue as u8; 512]);
    }
    let driver = &mut fixture.driver;
    driver.negotiate(1 << 32);
    driver.set_up_queues();
    for queue in [2, 3] {
        driver.write32(0x30, queue);
        driver.write32(0x44, 0);
    }
    driver.write32(0x70, 0xf);
    driver.run();
    assert_eq!(driver.read32(0x70), 0xf, "two of four are enough");
    driver.notify(3);
    assert_eq!(fixture.request_on(1, VIRTIO_BLK_T_IN, 7, Writable(buffer, 512)), (OK, 513));
    assert_eq!(fixture.block.lock().unwrap().positions().len(), 2);
}

#[test]
fn a_disk_has_one_to_sixteen_queues() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(512).unwrap();
    for queues in [0, 17, u16::MAX] {
        let error =
            Block::open(&DiskConfig { queues, ..DiskConfig::new(file.path()) }).unwrap_err().to_string();
        assert!(error.contains("1 to 16"), "{error}");
    }
}

#[test]
fn an_unsafe_disk_does_not_ask_to_be_flushed() {
    let mut fixture = disk_with(|config| config.cache = CacheMode::Unsafe);
    assert_eq!(fixture.driver.offered() & (1 << VIRTIO_BLK_F_FLUSH), 0);
    let buffer = fixture.driver.put(&[0xab; 512]);
    assert_eq!(fixture.request(VIRTIO_BLK_T_OUT, 1, Readable(buffer, 512)), (OK, 1));
}

#[test]
fn the_guest_is_told_when_the_host_changes_the_size() {
    let mut fixture = disk(false);
    let generation = fixture.driver.read32(0xfc);
    fixture.file.as_file().set_len(2 * SECTORS * 512).unwrap();
    fixture.block.lock().unwrap().update(None).unwrap();
    assert_eq!(fixture.driver.read32(0x60), 2, "a config interrupt");
    assert_ne!(fixture.driver.read32(0xfc), generation);
    assert_eq!(fixture.driver.read32(0x100), 2 * SECTORS as u32);
    let buffer = fixture.driver.allocate(512);
    assert_eq!(fixture.request(VIRTIO_BLK_T_IN, SECTORS, Writable(buffer, 512)), (OK, 513));
    let absent = fixture.block.lock().unwrap().update(Some(Path::new("/no/such/disk")));
    assert!(absent.unwrap_err().to_string().contains("/no/such/disk"));
    assert_eq!(fixture.request(VIRTIO_BLK_T_IN, 1, Writable(buffer, 512)), (OK, 513));
    assert_eq!((fixture.counter("update_count"), fixture.counter("update_fails")), (1, 1));
}

#[test]
fn counts_what_it_did() {
    let mut fixture = disk(false);
    let buffer = fixture.driver.allocate(1024);
    fixture.request(VIRTIO_BLK_T_IN, 0, Writable(buffer, 1024));
    fixture.request(VIRTIO_BLK_T_OUT, 0, Readable(buffer, 512));
    fixture.request(VIRTIO_BLK_T_IN, SECTORS, Writable(buffer, 512));
    fixture.request(99, 0, Writable(buffer, 512));
    for (name, wanted) in [
        ("read_count", 1),
        ("read_bytes", 1024),
        ("write_count", 1),
        ("write_bytes", 512),
        ("execute_fails", 1),
        ("invalid_reqs_count", 1),
        ("queue_event_count", 4),
    ] {
        assert_eq!(fixture.counter(name), wanted, "{name}");
    }
}
