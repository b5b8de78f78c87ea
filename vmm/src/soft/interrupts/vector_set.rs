//! A set of interrupt vectors, as the 256-bit registers of a local APIC hold it.

use serde::{Deserialize, Serialize};

/// Which of the 256 vectors are set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VectorSet([u32; 8]);

impl VectorSet {
    /// Sets or clears `vector`.
    pub(super) fn assign(&mut self, vector: u8, set: bool) {
        let (word, bit) = place(vector);
        if set {
            self.0[word] |= bit;
        } else {
            self.0[word] &= !bit;
        }
    }

    /// Whether `vector` is set.
    pub(super) fn contains(&self, vector: u8) -> bool {
        let (word, bit) = place(vector);
        self.0[word] & bit != 0
    }

    /// The greatest vector that is set.
    pub(super) fn highest(&self) -> Option<u8> {
        let (index, word) = (0u8..8).zip(self.0).rfind(|(_, word)| *word != 0)?;
        Some(index * 32 + word.ilog2().to_le_bytes()[0])
    }

    /// The 32 vectors from `32 * index` on, as a register shows them; none beyond the end.
    pub(super) fn word(&self, index: u8) -> u32 {
        self.0.get(usize::from(index)).copied().unwrap_or(0)
    }
}

fn place(vector: u8) -> (usize, u32) {
    (usize::from(vector / 32), 1 << (vector % 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_is_found_wherever_it_is() {
        let mut set = VectorSet::default();
        assert_eq!(set.highest(), None);
        for vector in [0, 31, 32, 100, 255] {
            set.assign(vector, true);
            assert_eq!(set.highest(), Some(vector));
        }
        set.assign(255, false);
        assert_eq!((set.highest(), set.contains(255), set.contains(31)), (Some(100), false, true));
    }

    #[test]
    fn registers_show_32_vectors_each() {
        let mut set = VectorSet::default();
        set.assign(33, true);
        set.assign(224, true);
        assert_eq!((0..9).map(|index| set.word(index)).collect::<Vec<_>>(), [0, 2, 0, 0, 0, 0, 0, 1, 0]);
    }
}
