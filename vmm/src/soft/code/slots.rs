//! The numbers of blocks by address: two places for each address, in a table that grows with the blocks, as those of an
//! idle guest are few.

/// The number of no block.
pub(super) const NONE: u32 = u32::MAX;

/// Slots of the first table and of the largest. There are four for each block until there are that many.
const FIRST: usize = 1 << 12;
const MOST: usize = 1 << 16;
const FOR_EACH: usize = 4;

/// The table. What it says of an address has to be compared with the block.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// A power of two, or none yet. Numbers are inverted: zero is [`NONE`], so that what nobody looks at takes no memory.
    inverted: Vec<u32>,
}

impl Slots {
    /// The block at `address`, as `start_of` says, or [`NONE`].
    #[inline(always)]
    pub(super) fn find(&self, address: u64, start_of: impl Fn(u32) -> Option<u64>) -> u32 {
        let first = self.first(address);
        for slot in [first, first ^ 1] {
            let number = self.inverted.get(slot).map_or(NONE, |inverted| !inverted);
            if start_of(number) == Some(address) {
                return number;
            }
        }
        NONE
    }

    /// Remembers the newest block, `number`, and forgets the older one of two others at its place, or that at its address.
    pub(super) fn insert(&mut self, number: u32, start_of: impl Fn(u32) -> Option<u64>) {
        let wanted = (number as usize + 1).saturating_mul(FOR_EACH).clamp(FIRST, MOST);
        if self.inverted.len() < wanted {
            self.inverted = vec![!NONE; wanted.next_power_of_two()];
            (0..number).for_each(|older| self.put(older, &start_of));
        }
        self.put(number, &start_of);
    }

    fn put(&mut self, number: u32, start_of: &impl Fn(u32) -> Option<u64>) {
        let Some(address) = start_of(number) else { return };
        let first = self.first(address);
        if start_of(!self.inverted[first]).is_some_and(|other| other != address) {
            self.inverted[first ^ 1] = self.inverted[first];
        }
        self.inverted[first] = !number;
    }

    /// Forgets all blocks.
    pub(super) fn clear(&mut self) {
        self.inverted.fill(!NONE);
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "only the low bits count")]
    fn first(&self, address: u64) -> usize {
        (address ^ address >> 16) as usize & self.inverted.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(starts: &[u64], found: &[u64]) -> Vec<u32> {
        let start_of = |number: u32| starts.get(number as usize).copied();
        let mut slots = Slots::default();
        for number in 0..u32::try_from(starts.len()).unwrap() {
            slots.insert(number, start_of);
        }
        found.iter().map(|address| slots.find(*address, start_of)).collect()
    }

    #[test]
    fn the_newer_two_at_one_place_are_kept() {
        let [a, b, c] = [0x10, 0x10 + FIRST as u64, 0x10 + 2 * FIRST as u64];
        assert_eq!(numbers(&[], &[a]), [NONE]);
        assert_eq!(numbers(&[a, b], &[a, b, c]), [0, 1, NONE]);
        assert_eq!(numbers(&[a, b, c], &[a, b, c]), [NONE, 1, 2]);
    }

    #[test]
    fn of_two_at_one_address_the_newer_is_found_and_no_other_goes() {
        let [a, b] = [0x10, 0x10 + FIRST as u64];
        assert_eq!(numbers(&[a, b, b], &[a, b]), [0, 2]);
    }

    #[test]
    fn the_table_grows_with_the_blocks_up_to_a_limit() {
        let starts: Vec<u64> = (0..100_000).map(|number| number * 8).collect();
        let start_of = |number: u32| starts.get(number as usize).copied();
        let mut slots = Slots::default();
        for (number, slots_then) in [(0, FIRST), (1023, FIRST), (1024, 2 * FIRST), (99_999, MOST)] {
            slots.insert(number, start_of);
            assert_eq!(slots.inverted.len(), slots_then, "{number}");
            assert_eq!(slots.find(starts[number as usize], start_of), number);
        }
        assert_eq!(slots.find(starts[99_998], start_of), 99_998, "taken over from a smaller table");
    }

    #[test]
    fn what_was_cleared_is_not_found() {
        let start_of = |number: u32| (number == 0).then_some(0x10);
        let mut slots = Slots::default();
        slots.insert(0, start_of);
        slots.clear();
        assert_eq!(slots.find(0x10, start_of), NONE);
    }
}
