//! The persistent memory device against a driver.

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::virtio::testing::Buffer::{Readable, Writable};
use crate::virtio::testing::{Descriptor, Driver, MEMORY_SIZE, NEXT, WRITE, hostile};

const NO_ANSWER: [u8; 4] = [0xee; 4];
const OK: [u8; 4] = [0; 4];
const FAILED: [u8; 4] = [0xff; 4];

fn device(file: Option<File>) -> Driver {
    Driver::started(Pmem::new(0x1_0000_0000, 0x40_0000, file.map(Arc::new)))
}

fn writable_file() -> File {
    tempfile::tempfile().unwrap()
}

/// What no flush gets through to.
fn pipe() -> File {
    let (reader, _writer) = std::io::pipe().unwrap();
    File::from(std::os::fd::OwnedFd::from(reader))
}

/// Sends a request of this type; the result, and the bytes used.
fn request(driver: &mut Driver, kind: u32) -> ([u8; 4], u32) {
    let kind = driver.put(&kind.to_le_bytes());
    let result = driver.put(&NO_ANSWER);
    let head = driver.queue(0, &[Readable(kind, 4), Writable(result, 4)]);
    driver.notify(0);
    let used = driver.used(0);
    assert_eq!((used.len(), used[0].0), (1, head));
    (driver.get(result, 4).try_into().unwrap(), used[0].1)
}

#[test]
fn says_where_the_image_is() {
    let mut driver = device(None);
    let words: Vec<u32> = (0..5).map(|word| driver.read32(0x100 + 4 * word)).collect();
    assert_eq!(words, [0, 1, 0x40_0000, 0, 0]);
    assert_eq!(driver.read32(0x8), 27);
}

#[test]
fn flushes_and_says_whether_that_worked() {
    for (file, wanted) in [(None, OK), (Some(writable_file()), OK), (Some(pipe()), FAILED)] {
        let what = format!("{file:?}");
        assert_eq!(request(&mut device(file), 0), (wanted, 4), "{what}");
    }
}

#[test]
fn other_requests_fail_and_flush_nothing() {
    let mut pmem = Pmem::new(0, 0x20_0000, None);
    assert!(pmem.counters().iter().all(|counter| counter.value == 0));
    pmem.flush();
    assert_eq!(pmem.counters()[0], Counter { name: "flush_count", value: 1 });
    let mut driver = device(Some(writable_file()));
    for kind in [1, u32::MAX] {
        assert_eq!(request(&mut driver, kind), (FAILED, 4), "type {kind}");
    }
    assert_eq!(request(&mut driver, 0), (OK, 4), "the device lives on");
}

#[test]
fn a_full_queue_is_answered_in_one_go() {
    let mut driver = device(Some(writable_file()));
    let kind = driver.put(&[0; 4]);
    let result = driver.put(&NO_ANSWER);
    for _ in 0..QUEUE_SIZE / 2 {
        driver.queue(0, &[Readable(kind, 4), Writable(result, 4)]);
    }
    driver.notify(0);
    assert_eq!(driver.used(0).len(), usize::from(QUEUE_SIZE / 2));
    assert_eq!(driver.interrupts.count(), 1);
}

#[test]
fn malformed_chains_come_back_and_do_no_harm() {
    let mut driver = device(Some(writable_file()));
    let kind = driver.put(&[0; 4]);
    let result = driver.put(&NO_ANSWER);
    let d = |address, length, flags, next| Descriptor { address, length, flags, next };
    let cases = [
        ("no room for the result", vec![d(kind, 4, 0, 0)], NO_ANSWER, 0),
        ("too little room", vec![d(kind, 4, NEXT, 1), d(result, 3, WRITE, 0)], NO_ANSWER, 0),
        ("room outside of memory", vec![d(kind, 4, NEXT, 1), d(MEMORY_SIZE - 2, 4, WRITE, 0)], NO_ANSWER, 0),
        ("short type", vec![d(kind, 3, NEXT, 1), d(result, 4, WRITE, 0)], FAILED, 4),
        ("type outside of memory", vec![d(u64::MAX, 4, NEXT, 1), d(result, 4, WRITE, 0)], FAILED, 4),
        ("endless", vec![d(kind, 4, NEXT, 1), d(result, 4, NEXT | WRITE, 1)], FAILED, 4),
        (
            "readable after writable",
            vec![d(kind, 4, NEXT, 1), d(result, 4, NEXT | WRITE, 2), d(kind, 4, 0, 0)],
            FAILED,
            4,
        ),
    ];
    for (name, descriptors, wanted, written) in cases {
        driver.memory.write_slice(&NO_ANSWER, GuestAddress(result)).unwrap();
        for (index, descriptor) in (0..).zip(descriptors) {
            driver.write_descriptor(0, index, descriptor);
        }
        driver.offer(0, 0);
        driver.notify(0);
        assert_eq!(driver.used(0), [(0, written)], "{name}");
        assert_eq!(driver.get(result, 4), wanted, "{name}");
    }
    assert_eq!(driver.read32(0x70), 0xf, "the device lives on");
}

#[test]
fn works_again_after_a_reset() {
    let mut driver = device(Some(writable_file()));
    driver.write32(0x70, 0);
    driver.run();
    let features = driver.offered();
    driver.start(features & !(1 << 29));
    assert_eq!(request(&mut driver, 0), (OK, 4));
}

proptest::proptest! {
    #[test]
    fn hostile_chains_come_back(requests in hostile::requests()) {
        let mut driver = device(None);
        let returned = hostile::run(&mut driver, 0, &requests);
        let broken = driver.read32(0x70) & 0x40 != 0;
        proptest::prop_assert!(broken || returned == requests.1.len(), "{} came back", returned);
    }
}
