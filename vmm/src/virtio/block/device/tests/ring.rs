//! What is special where requests go through a ring. On a host without io_uring the same holds without one.

use std::io;

use super::*;

fn ring_disk() -> Fixture {
    disk_with(|config| config.io_engine = IoEngine::Async)
}

/// Offers as many reads of one sector as the queue has descriptors, each an indirect chain.
fn fill_queue(driver: &mut Driver, sector: u64) -> (u64, usize) {
    let header = driver.put(&header(VIRTIO_BLK_T_IN, sector));
    let buffer = driver.put(&[NO_ANSWER; 513]);
    let table = indirect_read(driver, header, buffer);
    let flags = VRING_DESC_F_INDIRECT as u16;
    for index in 0..QUEUE_SIZE {
        driver.write_descriptor(0, index, Descriptor { address: table, length: 48, flags, next: 0 });
        driver.offer(0, index);
    }
    (buffer, usize::from(QUEUE_SIZE))
}

#[test]
fn more_requests_than_the_ring_holds_all_come_back() {
    let mut fixture = ring_disk();
    let (buffer, count) = fill_queue(&mut fixture.driver, 9);
    fixture.driver.notify(0);
    let mut heads: Vec<_> = fixture.used(0, count).into_iter().map(|(head, _)| head).collect();
    heads.sort_unstable();
    assert_eq!(heads, (0..QUEUE_SIZE).collect::<Vec<_>>());
    assert_eq!(fixture.driver.get(buffer, 513), [vec![9; 512], vec![OK]].concat());
    let full = fixture.counter("io_engine_throttled_events");
    assert_eq!(full > 0, fixture.block.lock().unwrap().async_io.is_some());
}

#[test]
fn a_snapshot_and_a_reset_wait_for_what_is_in_progress() {
    let mut fixture = ring_disk();
    fill_queue(&mut fixture.driver, 9);
    fixture.driver.write32(0x50, 0);
    // One turn of the loop and no more.
    fixture.driver.events.run_with_timeout(0).unwrap();
    let positions = fixture.block.lock().unwrap().positions();
    assert_eq!(positions[0].next_available, positions[0].next_used);
    let returned = fixture.driver.used(0).len();
    assert_eq!(returned, usize::from(positions[0].next_used));
    assert!(returned >= 128, "{returned}");
    fixture.driver.write32(0x70, 0);
    assert!(fixture.block.lock().unwrap().positions().is_empty());
    fixture.driver.run();
}

#[test]
fn signals_that_come_after_a_reset_end() {
    let mut fixture = ring_disk();
    fill_queue(&mut fixture.driver, 9);
    fixture.driver.write32(0x50, 0);
    fixture.driver.events.run_with_timeout(0).unwrap();
    if let Some(ring) = &fixture.block.lock().unwrap().async_io {
        ring.raise();
    }
    fixture.driver.write32(0x70, 0);
    // Panics if the loop does not come to rest.
    fixture.driver.run();
}

#[test]
fn a_disk_whose_ring_fails_goes_on_without_it() {
    let mut fixture = ring_disk();
    let buffer = fixture.driver.allocate(512);
    assert_eq!(fixture.request(VIRTIO_BLK_T_IN, 3, Writable(buffer, 512)), (OK, 513));
    fixture.block.lock().unwrap().stop_ring(&io::ErrorKind::Unsupported.into());
    assert!(fixture.block.lock().unwrap().async_io.is_none());
    for sector in 0..SECTORS {
        assert_eq!(fixture.request(VIRTIO_BLK_T_IN, sector, Writable(buffer, 512)), (OK, 513));
        assert_eq!(fixture.driver.get(buffer, 512), [sector as u8; 512]);
    }
}

#[test]
fn the_ring_follows_the_disk_to_another_file() {
    let mut fixture = ring_disk();
    let other = tempfile::NamedTempFile::new().unwrap();
    other.as_file().set_len(2 * 512).unwrap();
    fixture.block.lock().unwrap().update(Some(other.path())).unwrap();
    let buffer = fixture.driver.put(&[0xab; 512]);
    assert_eq!(fixture.request(VIRTIO_BLK_T_OUT, 1, Readable(buffer, 512)), (OK, 1));
    assert_eq!(std::fs::read(other.path()).unwrap()[512..], [0xab; 512]);
    assert_eq!(fixture.sector(1), [1; 512]);
}

#[test]
fn a_file_that_has_become_shorter_is_an_error_of_the_request() {
    let mut fixture = ring_disk();
    fixture.file.as_file().set_len(5 * 512).unwrap();
    let buffer = fixture.driver.allocate(1024);
    assert_eq!(fixture.request(VIRTIO_BLK_T_IN, 4, Writable(buffer, 1024)), (IOERR, 1));
    assert_eq!(fixture.request(VIRTIO_BLK_T_IN, 4, Writable(buffer, 512)), (OK, 513));
}

#[test]
fn writes_are_durable_without_flushes_where_the_driver_knows_none() {
    let mut fixture = ring_disk();
    fixture.driver.write32(0x70, 0);
    fixture.driver.run();
    fixture.driver.start(1 << 32);
    assert!(fixture.block.lock().unwrap().model.write_through);
    let buffer = fixture.driver.put(&[0xab; 512]);
    assert_eq!(fixture.request(VIRTIO_BLK_T_OUT, 1, Readable(buffer, 512)), (OK, 1));
    assert_eq!(fixture.sector(1), [0xab; 512]);
}

#[test]
fn a_disk_that_is_closed_is_free_at_once() {
    let mut fixture = ring_disk();
    let buffer = fixture.driver.allocate(512);
    for _ in 0..20 {
        assert_eq!(fixture.request(VIRTIO_BLK_T_IN, 3, Writable(buffer, 512)), (OK, 513));
        let Fixture { driver, block, file } = fixture;
        drop((driver, block));
        let config = DiskConfig { io_engine: IoEngine::Async, ..DiskConfig::new(file.path()) };
        let block = Arc::new(Mutex::new(Block::open(&config).unwrap()));
        fixture = Fixture { driver: Driver::started_sharing(block.clone()), block, file };
    }
}
