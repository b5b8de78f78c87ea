//! A vhost-user device between a driver and backends of all manners.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::*;
use crate::memory::{Backing, map_guest_ram, map_memory};
use crate::virtio::device::device_type;
use crate::virtio::testing::Buffer::{Readable, Writable};
use crate::virtio::testing::{Driver, MEMORY_SIZE};
use crate::virtio::vhost_user::testing::{CONFIG, FEATURES, FakeBackend, Manner, SERVED};
use crate::virtio::vhost_user::{PATIENCE, Request};

fn kind(config: ConfigSpace) -> Kind {
    Kind {
        device_type: device_type::FS,
        features: 1 << 9 | 1 << 3,
        queue_sizes: vec![64, 128],
        required_queues: 1,
        config,
    }
}

fn memory() -> GuestMemory {
    map_guest_ram(MEMORY_SIZE).unwrap()
}

fn connect(backend: &FakeBackend, memory: &GuestMemory) -> Result<VhostUser, VhostUserError> {
    let config = ConfigSpace::Backend { len: 8, ours: (4, vec![2, 0]) };
    VhostUser::connect(kind(config), &backend.socket(), memory)
}

/// A driver of a device whose backend behaves like this; not started yet.
fn driver(backend: &FakeBackend) -> (Driver, Arc<Mutex<VhostUser>>) {
    let memory = memory();
    let device = Arc::new(Mutex::new(connect(backend, &memory).unwrap()));
    (Driver::sharing(device.clone(), memory), device)
}

fn start(driver: &mut Driver) {
    let features = driver.offered();
    driver.start(features);
}

/// Lets the event loop run until `done`, or for some seconds.
fn wait(driver: &mut Driver, done: impl Fn(&mut Driver) -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done(driver) {
        assert!(Instant::now() < end, "nothing happens");
        driver.events.run_with_timeout(20).unwrap();
    }
}

fn needs_reset(driver: &mut Driver) -> bool {
    driver.read32(0x70) & 0x40 != 0
}

/// A request that the backend fills.
fn request(driver: &mut Driver, queue: usize) {
    let (asked, answer) = (driver.put(b"please"), driver.put(&[0; 100]));
    let head = driver.queue(queue, &[Readable(asked, 6), Writable(answer, 100)]);
    let before = driver.interrupts.count();
    driver.notify(queue);
    wait(driver, |driver| driver.interrupts.count() > before);
    assert_eq!(driver.used(queue), [(head, 100)]);
    assert_eq!(driver.get(answer, 100), [SERVED; 100]);
    assert_eq!(driver.read32(0x60) & 1, 1, "the interrupt says why");
    driver.write32(0x64, 1);
}

#[test]
fn offers_what_device_and_backend_have_in_common() {
    let backend = FakeBackend::start(Manner::Good);
    let (mut driver, device) = driver(&backend);
    assert_eq!(driver.offered(), FEATURES, "no event index, no indirect descriptors: the backend has none");
    assert_eq!(driver.read32(0x100), u32::from_le_bytes([CONFIG; 4]));
    assert_eq!(
        driver.read32(0x104),
        u32::from_le_bytes([2, 0, CONFIG, CONFIG]),
        "how many queues is not its to say"
    );
    assert!(device.lock().unwrap().refuses_snapshot().is_some());
}

#[test]
fn the_backend_serves_the_queues_in_the_guests_memory() {
    for manner in [Manner::Good, Manner::Terse] {
        let backend = FakeBackend::start(manner);
        let (mut driver, device) = driver(&backend);
        for _ in 0..2 {
            start(&mut driver);
            assert_eq!(driver.read32(0x70), 0xf, "{manner:?}");
            for queue in [0, 1, 1, 0] {
                request(&mut driver, queue);
            }
            driver.write32(0x70, 0);
            driver.run();
        }
        assert_eq!(device.lock().unwrap().counters()[0].value, 8);
        drop((driver, device));
        backend.join();
    }
}

#[test]
fn a_driver_may_leave_the_last_queues_out() {
    let backend = FakeBackend::start(Manner::Good);
    let (mut driver, device) = driver(&backend);
    let features = driver.offered();
    driver.negotiate(features);
    driver.set_up_queues();
    driver.write32(0x30, 1);
    driver.write32(0x44, 0);
    driver.write32(0x70, 0xf);
    assert_eq!(driver.read32(0x70), 0xf);
    request(&mut driver, 0);
    drop((driver, device));
    backend.join();
}

#[test]
fn a_backend_that_is_no_backend_is_refused_in_bounded_time() {
    let cases = [
        (Manner::Closes(Request::GetFeatures), "is gone"),
        (Manner::Garbage(Request::GetFeatures), "answers to GetFeatures with something else"),
        (Manner::Long(Request::GetFeatures), "answers to GetFeatures with something else"),
        (Manner::Garbage(Request::GetConfig), "answers to GetConfig with something else"),
        (Manner::Long(Request::GetConfig), "answers to GetConfig with something else"),
        (Manner::Long(Request::GetQueueNum), "answers to GetQueueNum with something else"),
        (Manner::Closes(Request::GetProtocolFeatures), "is gone"),
    ];
    for (manner, complaint) in cases {
        let backend = FakeBackend::start(manner);
        let error = connect(&backend, &memory()).unwrap_err().to_string();
        assert!(error.contains(complaint), "{manner:?}: {error}");
    }
    for manner in [Manner::Silent(Request::GetFeatures), Manner::Half(Request::GetConfig)] {
        let backend = FakeBackend::start(manner);
        let start = Instant::now();
        let error = connect(&backend, &memory()).unwrap_err().to_string();
        assert!(error.contains("does not answer"), "{manner:?}: {error}");
        assert!(start.elapsed() < 2 * PATIENCE, "{manner:?}");
    }
}

#[test]
fn nobody_there_and_memory_that_cannot_be_shared_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("socket");
    let connect = |memory| VhostUser::connect(kind(ConfigSpace::Here(Vec::new())), &nowhere, memory);
    let shared = memory();
    let error = connect(&shared).unwrap_err().to_string();
    assert!(error.contains("start it first"), "{error}");
    let own = map_memory(MEMORY_SIZE, Backing::Anonymous, &[]).unwrap();
    assert!(matches!(connect(&own), Err(VhostUserError::NotShared)));
}

#[test]
fn a_backend_that_fails_at_the_start_costs_the_device_only() {
    for request_that_fails in [Request::SetFeatures, Request::SetMemTable, Request::SetVringKick] {
        for manner in [
            Manner::Closes(request_that_fails),
            Manner::Garbage(request_that_fails),
            Manner::Refuses(request_that_fails),
        ] {
            let backend = FakeBackend::start(manner);
            let (mut driver, _device) = driver(&backend);
            for _ in 0..2 {
                start(&mut driver);
                assert!(needs_reset(&mut driver), "{manner:?}");
                driver.write32(0x70, 0);
                assert_eq!(driver.read32(0x70), 0, "{manner:?}");
            }
        }
    }
}

#[test]
fn a_silent_backend_holds_the_driver_up_for_a_bounded_time() {
    let backend = FakeBackend::start(Manner::Silent(Request::SetMemTable));
    let (mut driver, _device) = driver(&backend);
    let begin = Instant::now();
    start(&mut driver);
    assert!(needs_reset(&mut driver));
    assert!(begin.elapsed() < 2 * PATIENCE);
}

#[test]
fn a_backend_that_dies_or_talks_unasked_costs_the_device_only() {
    for manner in [Manner::DiesWhenNotified, Manner::TalksWhenNotified] {
        let backend = FakeBackend::start(manner);
        let (mut driver, device) = driver(&backend);
        start(&mut driver);
        driver.notify(0);
        wait(&mut driver, needs_reset);
        assert_eq!(device.lock().unwrap().counters()[1], Counter { name: "backend_fails", value: 1 });
        driver.write32(0x70, 0);
        start(&mut driver);
        assert!(needs_reset(&mut driver), "{manner:?}");
    }
}

#[test]
fn a_backend_that_does_not_stop_is_left_alone() {
    let last = Request::GetVringBase;
    for manner in [Manner::Closes(last), Manner::Garbage(last), Manner::Long(last)] {
        let backend = FakeBackend::start(manner);
        let (mut driver, device) = driver(&backend);
        start(&mut driver);
        request(&mut driver, 0);
        driver.write32(0x70, 0);
        driver.run();
        assert_eq!(driver.read32(0x70), 0, "{manner:?}");
        assert!(device.lock().unwrap().backend.is_none(), "{manner:?}");
    }
}
