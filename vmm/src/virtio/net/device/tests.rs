//! The network card between a guest's driver and a socket pair that stands for the tap, and once a real tap.

use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_HOST_TSO4,
};
use vm_memory::{GuestAddress, VolatileSlice};

use super::*;
use crate::memory::GuestMemory;
use crate::sys::iovec;
use crate::virtio::net::config::TapSource;
use crate::virtio::net::offloads;
use crate::virtio::net::tap::TapError;
use crate::virtio::testing::Buffer::{Readable, Writable};
use crate::virtio::testing::{Driver, MEMORY_SIZE, hostile};

mod limits;

const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x17];
const NO_LIMITS: RateLimiterConfig = RateLimiterConfig { bandwidth: None, ops: None };
const CONFIG: NetConfig = NetConfig {
    id: String::new(),
    // Not looked at: the cable is there.
    tap: TapSource::Fd(-1),
    mac: Some(MacAddress(MAC)),
    mtu: 1500,
    rx_rate_limiter: NO_LIMITS,
    tx_rate_limiter: NO_LIMITS,
};
const VERSION_1: u64 = 1 << 32;
const MERGEABLE: u64 = 1 << VIRTIO_NET_F_MRG_RXBUF;
const SEGMENTS: u64 = 1 << VIRTIO_NET_F_GUEST_CSUM | 1 << VIRTIO_NET_F_GUEST_TSO4;

/// One end of a socket pair as the card's tap.
#[derive(Debug)]
struct Cable {
    socket: UnixDatagram,
    offloads: Arc<AtomicU64>,
}

impl FrameIo for Cable {
    fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
    fn receive(&self, slices: &[VolatileSlice<'_>]) -> std::io::Result<usize> {
        iovec::read(&self.socket, slices)
    }
    fn send(&self, slices: &[VolatileSlice<'_>]) -> std::io::Result<usize> {
        iovec::write(&self.socket, slices)
    }
    fn offloads(&self) -> u64 {
        offloads::BASIC
    }
    fn set_offloads(&self, features: u64) -> std::io::Result<()> {
        self.offloads.store(features, Ordering::SeqCst);
        Ok(())
    }
}

struct Guest {
    driver: Driver,
    device: Arc<Mutex<Net<Cable>>>,
    /// The other end of the cable.
    host: UnixDatagram,
    offloads: Arc<AtomicU64>,
}

fn guest(features: u64) -> Guest {
    guest_with(CONFIG, features)
}

fn guest_with(config: NetConfig, features: u64) -> Guest {
    let (host, ours) = UnixDatagram::pair().unwrap();
    host.set_nonblocking(true).unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut guest = Guest::on(config, host, ours);
    guest.driver.start(VERSION_1 | features);
    assert_eq!(guest.driver.read32(0x70), 0xf);
    guest
}

/// A header as a tap gives it, and a frame of `length` bytes.
fn frame(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; 10];
    bytes.extend([0xff, 0xff]);
    bytes.extend((0..length).map(|index| (index % 251) as u8));
    bytes
}

impl Guest {
    /// A driver that has not touched the device yet.
    fn on(config: NetConfig, host: UnixDatagram, ours: UnixDatagram) -> Self {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_SIZE as usize)]).unwrap();
        let offloads = Arc::new(AtomicU64::new(0));
        let cable = Cable { socket: ours, offloads: Arc::clone(&offloads) };
        let device = Arc::new(Mutex::new(Net::new(&config, cable).unwrap()));
        Self { driver: Driver::sharing(device.clone(), memory), device, host, offloads }
    }

    fn count(&self, name: &str) -> u64 {
        let counters = self.device.lock().unwrap().counters();
        counters.iter().find(|counter| counter.name == name).unwrap().value
    }

    fn positions(&self) -> Vec<QueuePosition> {
        self.device.lock().unwrap().positions()
    }

    fn update(&mut self, receive: &RateLimiterConfig, transmit: &RateLimiterConfig) {
        self.device.lock().unwrap().update_limits(receive, transmit).unwrap();
        self.driver.run();
    }

    fn give_buffers(&mut self, count: usize, size: u32) -> Vec<(u16, u64)> {
        let buffers = (0..count)
            .map(|_| {
                let address = self.driver.allocate(size);
                (self.driver.queue(RECEIVE, &[Writable(address, size)]), address)
            })
            .collect();
        self.driver.notify(RECEIVE);
        buffers
    }

    fn arrive(&mut self, bytes: &[u8]) {
        self.host.send(bytes).unwrap();
        self.driver.run();
    }

    fn send(&mut self, bytes: &[u8]) {
        let address = self.driver.put(bytes);
        self.driver
            .queue(TRANSMIT, &[Readable(address, 12), Readable(address + 12, bytes.len() as u32 - 12)]);
        self.driver.notify(TRANSMIT);
        assert_eq!(self.driver.used(TRANSMIT).len(), 1);
    }

    fn sent(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 70_000];
        let count = self.host.recv(&mut bytes).ok()?;
        bytes.truncate(count);
        Some(bytes)
    }
}

#[test]
fn tells_address_and_mtu() {
    let mut guest = guest(0);
    let mut bytes = [0; 12];
    for (offset, byte) in (0x100..).zip(&mut bytes) {
        crate::bus::BusDevice::read(&mut guest.driver.transport, offset, std::slice::from_mut(byte));
    }
    assert_eq!(bytes, [0x02, 0, 0, 0, 0, 0x17, 0, 0, 0, 0, 0xdc, 0x05]);
}

#[test]
fn refuses_addresses_and_mtus_that_no_card_has() {
    let cable = || Cable { socket: UnixDatagram::unbound().unwrap(), offloads: Arc::default() };
    let mac = MacAddress([1, 0, 0, 0, 0, 1]);
    let group = NetConfig { mac: Some(mac), ..CONFIG };
    assert!(matches!(Net::new(&group, cable()), Err(NetError::Mac(bad)) if bad == mac));
    assert!(matches!(Net::new(&NetConfig { mtu: 67, ..CONFIG }, cable()), Err(NetError::Mtu(67))));
}

#[test]
fn sends_frames_as_they_are() {
    let mut guest = guest(0);
    for length in [14, 60, 1514] {
        guest.send(&frame(length));
        assert_eq!(guest.sent(), Some(frame(length)));
    }
}

#[test]
fn sends_whole_segments() {
    let mut guest = guest(1 << VIRTIO_NET_F_CSUM | 1 << VIRTIO_NET_F_HOST_TSO4);
    let bytes = frame(65_550);
    let address = guest.driver.put(&bytes);
    let pieces: Vec<_> = (0..bytes.len())
        .step_by(4096)
        .map(|start| Readable(address + start as u64, (bytes.len() - start).min(4096) as u32))
        .collect();
    guest.driver.queue(TRANSMIT, &pieces);
    guest.driver.notify(TRANSMIT);
    assert!(guest.sent() == Some(bytes));
}

#[test]
fn drops_frames_that_are_none() {
    let mut guest = guest(0);
    let address = guest.driver.put(&frame(70_000));
    let bad = [
        vec![Readable(address, 12)],
        vec![Readable(address, 25)],
        vec![Readable(address, 65_563)],
        vec![Writable(address, 60)],
        vec![Readable(address, 12), Readable(MEMORY_SIZE - 10, 60)],
    ];
    for buffers in bad {
        guest.driver.queue(TRANSMIT, &buffers);
        guest.driver.notify(TRANSMIT);
        assert_eq!(guest.driver.used(TRANSMIT).len(), 1, "{buffers:?} comes back");
        assert_eq!(guest.sent(), None, "{buffers:?}");
    }
}

#[test]
fn a_full_cable_drops_frames_and_returns_their_buffers() {
    let mut guest = guest(0);
    for _ in 0..2000 {
        guest.send(&frame(1514));
    }
    assert_eq!(guest.sent(), Some(frame(1514)));
}

#[test]
fn receives_a_frame_into_one_buffer() {
    let mut guest = guest(0);
    let buffers = guest.give_buffers(2, 1530);
    guest.arrive(&frame(60));
    guest.arrive(&frame(1514));
    let used = guest.driver.used(RECEIVE);
    assert_eq!(used, [(buffers[0].0, 72), (buffers[1].0, 1526)]);
    for ((_, address), length) in buffers.into_iter().zip([60, 1514]) {
        let bytes = guest.driver.get(address, length + 12);
        assert_eq!(bytes[10..12], [1, 0], "number of buffers");
        assert_eq!(bytes[12..], frame(length)[12..]);
    }
}

#[test]
fn spreads_a_segment_over_several_buffers() {
    let mut guest = guest(MERGEABLE | SEGMENTS);
    let buffers = guest.give_buffers(60, 1536);
    guest.arrive(&frame(4000));
    guest.arrive(&frame(50));
    let used = guest.driver.used(RECEIVE);
    let lengths: Vec<u32> = used.iter().map(|entry| entry.1).collect();
    assert_eq!(lengths, [1536, 1536, 940, 62]);
    let mut got = Vec::new();
    for ((_, address), (_, length)) in buffers.iter().zip(&used) {
        got.extend(guest.driver.get(*address, *length as usize));
    }
    assert_eq!(got[10..12], [3, 0]);
    assert_eq!(got[12..4012], frame(4000)[12..]);
    assert_eq!(got[4022..4024], [1, 0]);
    assert_eq!(got[4024..], frame(50)[12..]);
}

#[test]
fn waits_for_buffers_and_leaves_the_tap_alone_meanwhile() {
    let mut guest = guest(0);
    // More than the budget of one wake-up would be noticed by `run` not coming to rest.
    for _ in 0..20 {
        guest.arrive(&frame(100));
    }
    assert_eq!(guest.driver.used(RECEIVE), []);
    guest.give_buffers(15, 1530);
    assert_eq!(guest.driver.used(RECEIVE).len(), 15);
    guest.give_buffers(10, 1530);
    assert_eq!(guest.driver.used(RECEIVE).len(), 5);
    guest.arrive(&frame(100));
    assert_eq!(guest.driver.used(RECEIVE).len(), 1);
}

#[test]
fn a_segment_waits_until_the_largest_would_fit() {
    let mut guest = guest(MERGEABLE | SEGMENTS);
    guest.give_buffers(10, 4096);
    guest.arrive(&frame(1000));
    assert_eq!(guest.driver.used(RECEIVE), []);
    guest.give_buffers(10, 4096);
    assert_eq!(guest.driver.used(RECEIVE).len(), 1);
}

#[test]
fn a_ring_smaller_than_the_largest_segment_still_gets_what_fits() {
    let mut guest = guest(MERGEABLE | SEGMENTS);
    let sizes = [200; 256];
    for size in sizes {
        let address = guest.driver.allocate(size);
        guest.driver.queue(RECEIVE, &[Writable(address, size)]);
    }
    guest.driver.notify(RECEIVE);
    guest.arrive(&frame(60_000));
    assert_eq!(guest.driver.used(RECEIVE), [], "cut off, so dropped");
    guest.arrive(&frame(300));
    assert_eq!(guest.driver.used(RECEIVE).len(), 2);
}

#[test]
fn useless_buffers_come_back_empty() {
    let mut guest = guest(0);
    let address = guest.driver.allocate(4096);
    for buffers in
        [vec![Writable(address, 100)], vec![Readable(address, 2000)], vec![Writable(MEMORY_SIZE, 2000)]]
    {
        let head = guest.driver.queue(RECEIVE, &buffers);
        guest.driver.notify(RECEIVE);
        assert_eq!(guest.driver.used(RECEIVE), [(head, 0)], "{buffers:?}");
    }
    guest.arrive(&frame(100));
    guest.give_buffers(1, 1530);
    assert_eq!(guest.driver.used(RECEIVE).len(), 1);
}

#[test]
fn a_burst_costs_one_interrupt() {
    let mut guest = guest(0);
    guest.give_buffers(64, 1530);
    for _ in 0..10 {
        guest.host.send(&frame(100)).unwrap();
    }
    guest.driver.run();
    assert_eq!(guest.driver.used(RECEIVE).len(), 10);
    assert_eq!(guest.driver.interrupts.count(), 1);
}

#[test]
fn offloads_last_from_activation_to_reset() {
    let mut guest = guest(SEGMENTS);
    assert_eq!(guest.offloads.load(Ordering::SeqCst), VERSION_1 | SEGMENTS);
    guest.driver.write32(0x70, 0);
    assert_eq!(guest.offloads.load(Ordering::SeqCst), 0);
}

#[test]
fn after_a_reset_the_tap_is_left_alone_and_a_new_driver_gets_its_frames() {
    let mut guest = guest(0);
    guest.give_buffers(4, 1530);
    guest.driver.write32(0x70, 0);
    guest.arrive(&frame(100));
    guest.driver.start(VERSION_1 | MERGEABLE);
    let buffers = guest.give_buffers(4, 1530);
    assert_eq!(guest.driver.used(RECEIVE), [(buffers[0].0, 112)]);
    guest.send(&frame(60));
    assert_eq!(guest.sent(), Some(frame(60)));
}

#[test]
fn a_tap_that_breaks_does_not_keep_the_event_loop_busy() {
    let (host, ours) = UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    // From now on the socket is always ready and has never anything to read.
    ours.shutdown(std::net::Shutdown::Both).unwrap();
    let mut guest = Guest::on(CONFIG, host, ours);
    guest.driver.start(VERSION_1);
    guest.give_buffers(4, 1530);
    guest.driver.run();
    assert_eq!(guest.driver.used(RECEIVE), []);
}

mod in_own_namespace {
    use std::time::{Duration, Instant};

    use super::*;

    /// Records that the test cannot run here; `cargo xtask test` counts and prints it.
    fn skip(reason: &str) {
        use std::io::Write;

        println!("skipped: {reason}");
        if let Some(path) = std::env::var_os("CARVE_TEST_SKIPS") {
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
            writeln!(file, "frames_cross_a_real_tap: {reason}").unwrap();
        }
    }

    /// Packets that the interface has received, by the kernel's count: what the guest has sent.
    fn received(interface: &str) -> u64 {
        let table = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        let line = table.lines().find_map(|line| line.trim().strip_prefix(&format!("{interface}:"))).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn frames_cross_a_real_tap() {
        // Only this test's own thread, and what it starts.
        #[expect(deprecated, reason = "unsafe only with CLONE_FILES, which is not used")]
        let entered = rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET);
        if let Err(error) = entered {
            return skip(&format!("no network namespace can be made: {error}"));
        }
        let tap = match Tap::named("carve-test0") {
            Ok(tap) => tap,
            Err(error @ TapError::Open(_)) => return skip(&error.to_string()),
            Err(error) => panic!("{error}"),
        };
        assert!(matches!(Tap::named("carve-test0"), Err(TapError::Attach { .. })), "it is in use");
        let mut driver = Driver::new(Net::new(&CONFIG, tap).unwrap());
        driver.start(VERSION_1 | MERGEABLE | SEGMENTS);
        assert_eq!(driver.read32(0x70), 0xf, "the tap takes the offloads");
        for _ in 0..64 {
            let address = driver.allocate(1536);
            driver.queue(RECEIVE, &[Writable(address, 1536)]);
        }
        driver.notify(RECEIVE);
        // Bringing the interface up makes the kernel announce its IPv6 address: real frames for the guest.
        let up =
            std::process::Command::new("ip").args(["link", "set", "carve-test0", "up"]).status().unwrap();
        assert!(up.success());
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut frames = Vec::new();
        while frames.is_empty() && Instant::now() < deadline {
            driver.run();
            frames = driver.used(RECEIVE);
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(frames.iter().all(|frame| frame.1 > 12 + 14) && !frames.is_empty(), "{frames:?}");

        let before = received("carve-test0");
        let address = driver.put(&[[0; 12].as_slice(), &[0xff; 6], &MAC, &[0x08, 0x06], &[0; 46]].concat());
        driver.queue(TRANSMIT, &[Readable(address, 72)]);
        driver.notify(TRANSMIT);
        assert_eq!(received("carve-test0"), before + 1);
    }
}

proptest::proptest! {
    #[test]
    fn survives_hostile_chains(requests in hostile::requests(), queue in 0usize..2, mergeable: bool) {
        let mut guest = guest(if mergeable { MERGEABLE | SEGMENTS } else { 0 });
        for _ in 0..3 {
            guest.host.send(&frame(900)).unwrap();
        }
        hostile::run(&mut guest.driver, queue, &requests);
        guest.driver.start(VERSION_1);
        proptest::prop_assert_eq!(guest.driver.read32(0x70), 0xf);
        guest.give_buffers(8, 1530);
        guest.arrive(&frame(100));
        proptest::prop_assert!(!guest.driver.used(RECEIVE).is_empty());
    }
}
