//! Requests of all kinds, sensible and hostile, in both engines.

use proptest::prelude::*;
use virtio_bindings::virtio_blk::{VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};

use super::*;
use crate::virtio::testing::hostile;

fn engine() -> impl Strategy<Value = IoEngine> {
    prop_oneof![Just(IoEngine::Sync), Just(IoEngine::Async)]
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Read(u64, u32),
    Write(u64, u32, u8),
    Zero(u64, u32, bool),
    Flush,
    /// All that was queued so far is served, and the driver starts anew.
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    let place = (0..SECTORS + 2, 0u32..6);
    prop_oneof![
        4 => place.clone().prop_map(|(sector, count)| Step::Read(sector, count)),
        4 => (place.clone(), 1u8..).prop_map(|((sector, count), byte)| Step::Write(sector, count, byte)),
        2 => (place, any::<bool>()).prop_map(|((sector, count), unmap)| Step::Zero(sector, count, unmap)),
        1 => Just(Step::Flush),
        1 => Just(Step::Reset),
    ]
}

/// What a disk should do, in memory.
struct Reference(Vec<u8>);

impl Reference {
    fn bytes(&mut self, sector: u64, count: u32) -> Option<&mut [u8]> {
        let start = usize::try_from(sector).ok()? * 512;
        self.0.get_mut(start..start + count as usize * 512)
    }
}

fn restart(fixture: &mut Fixture) {
    fixture.driver.write32(0x70, 0);
    fixture.driver.run();
    let features = fixture.driver.offered() & !(1 << 29);
    fixture.driver.start(features);
}

proptest! {
    #[test]
    fn a_disk_is_what_was_written_to_it(engine in engine(), steps in prop::collection::vec(step(), 1..40)) {
        let mut fixture = disk_with(|config| config.io_engine = engine);
        let mut reference = Reference((0..SECTORS).flat_map(|sector| [sector as u8; 512]).collect());
        for step in steps {
            match step {
                Step::Read(sector, count) => {
                    let buffer = fixture.driver.put(&vec![0xcc; count as usize * 512]);
                    let (status, _) = fixture.request(VIRTIO_BLK_T_IN, sector, Writable(buffer, count * 512));
                    let wanted = reference.bytes(sector, count).map(|bytes| bytes.to_vec());
                    prop_assert_eq!(status == OK, wanted.is_some());
                    if let Some(wanted) = wanted {
                        prop_assert_eq!(fixture.driver.get(buffer, wanted.len()), wanted);
                    }
                }
                Step::Write(sector, count, byte) => {
                    let buffer = fixture.driver.put(&vec![byte; count as usize * 512]);
                    let (status, _) = fixture.request(VIRTIO_BLK_T_OUT, sector, Readable(buffer, count * 512));
                    let place = reference.bytes(sector, count);
                    prop_assert_eq!(status == OK, place.is_some());
                    place.into_iter().for_each(|bytes| bytes.fill(byte));
                }
                Step::Zero(sector, count, unmap) => {
                    let status =
                        fixture.ranges(VIRTIO_BLK_T_WRITE_ZEROES, &[(sector, count, u32::from(unmap))]);
                    let place = reference.bytes(sector, count);
                    prop_assert_eq!(status == OK, place.is_some());
                    place.into_iter().for_each(|bytes| bytes.fill(0));
                }
                Step::Flush => {
                    let (status, _) = fixture.request(VIRTIO_BLK_T_FLUSH, 0, Readable(0, 0));
                    prop_assert_eq!(status, OK);
                }
                Step::Reset => restart(&mut fixture),
            }
        }
        prop_assert_eq!(std::fs::read(fixture.file.path()).unwrap(), reference.0);
    }

    #[test]
    fn hostile_chains_come_back_and_the_disk_keeps_its_size(
        engine in engine(),
        (kind, sector) in (prop_oneof![0u32..16, Just(VIRTIO_BLK_T_DISCARD), any::<u32>()], 0..SECTORS + 1),
        mut requests in hostile::requests(),
    ) {
        let mut fixture = disk_with(|config| config.io_engine = engine);
        // The bytes at the start of the buffers are a header at times.
        requests.2[..16].copy_from_slice(&header(kind, sector));
        let mut returned = hostile::run(&mut fixture.driver, 0, &requests);
        fixture.block.lock().unwrap().positions();
        returned += fixture.driver.used(0).len();
        let broken = fixture.driver.read32(0x70) & 0x40 != 0;
        prop_assert!(broken || returned == requests.1.len(), "{} came back", returned);
        prop_assert_eq!(fixture.file.as_file().metadata().unwrap().len(), SECTORS * 512);
        restart(&mut fixture);
        let buffer = fixture.driver.allocate(512);
        prop_assert_eq!(fixture.request(VIRTIO_BLK_T_IN, 1, Writable(buffer, 512)), (OK, 513));
    }
}
