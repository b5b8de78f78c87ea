//! Discard and zeroes.

use virtio_bindings::virtio_blk::{VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};

use super::*;

#[test]
fn discarded_sectors_go_back_to_the_host_and_zeroed_ones_read_as_zeroes() {
    let mut fixture = disk(false);
    let discarded = fixture.ranges(VIRTIO_BLK_T_DISCARD, &[(8, 8, 0), (32, 16, 0)]);
    assert_eq!(discarded, OK);
    assert_eq!(fixture.ranges(VIRTIO_BLK_T_WRITE_ZEROES, &[(1, 2, 0)]), OK);
    assert_eq!(fixture.ranges(VIRTIO_BLK_T_WRITE_ZEROES, &[(50, 1, 1)]), OK);
    for sector in 0..SECTORS {
        let holed = [1..3, 8..16, 32..48, 50..51].iter().any(|range| range.contains(&sector));
        let wanted = if holed { 0 } else { sector as u8 };
        assert_eq!(fixture.sector(sector), [wanted; 512], "{sector}");
    }
    assert_eq!(fixture.file.as_file().metadata().unwrap().len(), SECTORS * 512);
    assert_eq!((fixture.counter("discard_count"), fixture.counter("discard_bytes")), (1, 24 * 512));
    assert_eq!((fixture.counter("write_zeroes_count"), fixture.counter("write_zeroes_bytes")), (2, 3 * 512));
}

#[test]
fn ranges_that_make_no_sense_change_nothing() {
    const BOTH: [u32; 2] = [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES];
    let mut fixture = disk(false);
    for kind in BOTH {
        for (range, wanted) in [
            ((0, u32::MAX, 0), IOERR),
            ((SECTORS, 1, 0), IOERR),
            ((SECTORS - 1, 2, 0), IOERR),
            ((u64::MAX, 1, 0), IOERR),
            ((0, 1, 2), UNSUPP),
            ((0, 1, u32::MAX), UNSUPP),
        ] {
            assert_eq!(fixture.ranges(kind, &[range]), wanted, "{kind} {range:?}");
        }
        assert_eq!(fixture.ranges(kind, &[(1, 1, 0); 33]), IOERR, "too many ranges");
        let data = fixture.driver.put(&[0; 24]);
        assert_eq!(fixture.request(kind, 0, Readable(data, 24)).0, IOERR, "half a range");
        assert_eq!(fixture.request(kind, 0, Readable(MEMORY_SIZE, 16)).0, IOERR, "not in memory");
    }
    assert_eq!(fixture.ranges(VIRTIO_BLK_T_DISCARD, &[(0, 1, 1)]), UNSUPP, "unmap is for zeroes");
    assert_eq!(fixture.ranges(VIRTIO_BLK_T_DISCARD, &[(1, 1, 0), (SECTORS, 1, 0)]), IOERR);
    assert!((0..SECTORS).all(|sector| fixture.sector(sector) == [sector as u8; 512]));
    let mut fixture = disk(true);
    for kind in BOTH {
        assert_eq!(fixture.ranges(kind, &[(1, 1, 0)]), IOERR, "a read-only disk");
    }
}
