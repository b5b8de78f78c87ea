//! The pages that a driver puts into the balloon (virtio 1.2, section 5.5.6): an array of page numbers.

use std::ops::Range;

use crate::memory::GuestMemory;
use crate::virtio::balloon::config::PAGE_SHIFT;
use crate::virtio::segments::{Segments, SegmentsError};

/// The most page numbers that are read of one request; Linux sends 256. The pages beyond stay where they are, which a
/// device may do with any page in the balloon.
pub const MAX_PAGES: usize = 1024;
const NUMBER_SIZE: usize = 4;

/// Reads the page numbers in `request` as ranges of guest physical addresses, as few and as large as they can be.
///
/// # Errors
///
/// The request is not in guest memory.
pub fn read(memory: &GuestMemory, mut request: Segments) -> Result<Vec<Range<u64>>, SegmentsError> {
    let count = (request.len() / NUMBER_SIZE).min(MAX_PAGES);
    let mut bytes = vec![0; count * NUMBER_SIZE];
    request.take_front(bytes.len()).copy_to(memory, &mut bytes)?;
    let (numbers, _) = bytes.as_chunks::<NUMBER_SIZE>();
    Ok(ranges(numbers.iter().map(|number| u32::from_le_bytes(*number)).collect()))
}

/// Runs of consecutive pages as ranges of addresses.
fn ranges(mut numbers: Vec<u32>) -> Vec<Range<u64>> {
    numbers.sort_unstable();
    numbers.dedup();
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for number in numbers {
        let page = u64::from(number) << PAGE_SHIFT..(u64::from(number) + 1) << PAGE_SHIFT;
        match ranges.last_mut() {
            Some(last) if last.end == page.start => last.end = page.end,
            _ => ranges.push(page),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress};

    use super::*;

    #[test]
    fn pages_become_as_few_ranges_as_can_be() {
        type Ends = &'static [(u64, u64)];
        let cases: [(&[u32], Ends); 4] = [
            (&[], &[]),
            (&[7, 5, 6, 5], &[(0x5000, 0x8000)]),
            (&[9, 1, 8], &[(0x1000, 0x2000), (0x8000, 0xa000)]),
            (&[u32::MAX, 0, u32::MAX - 1], &[(0, 0x1000), (0xfff_ffff_e000, 0x1000_0000_0000)]),
        ];
        for (numbers, wanted) in cases {
            let ranges: Vec<_> =
                ranges(numbers.to_vec()).iter().map(|range| (range.start, range.end)).collect();
            assert_eq!(ranges, wanted, "{numbers:?}");
        }
    }

    #[test]
    fn a_request_is_read_to_its_last_whole_number_and_not_without_end() {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap();
        let numbers: Vec<u8> = (0..0x8000u32).flat_map(|page| (2 * page).to_le_bytes()).collect();
        memory.write_slice(&numbers, GuestAddress(0)).unwrap();
        for (length, wanted) in [(0, 0), (3, 0), (4, 1), (11, 2), (1024, 256), (0x2_0000, MAX_PAGES)] {
            let mut request = Segments::default();
            request.push(GuestAddress(0), length);
            assert_eq!(read(&memory, request).unwrap().len(), wanted, "{length}");
        }
        let mut outside = Segments::default();
        outside.push(GuestAddress(0xf_fffe), 4);
        assert!(read(&memory, outside).is_err());
    }
}
