//! Random values that are the same for the same seed, and that like to be near the edges.

/// A generator of random numbers (splitmix64).
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any value.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A value below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True in `percent` of a hundred cases.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `values`.
    pub(super) fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        let index = self.below(values.len() as u64);
        values[usize::try_from(index).expect("an index")]
    }

    /// Eight bytes of a vector: any, or such as have bytes in common with others.
    pub(super) fn vector_word(&mut self) -> u64 {
        match self.below(4) {
            0 | 1 => self.next(),
            2 => self.pick(&[0, u64::MAX, 0x8000_7fff_8080_7f7f, 0x0102_0304_0506_0708]),
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.pick(b"aaabbcz\0\x80\xff"))),
        }
    }

    /// A value for an operand: often zero, one, all ones, around a sign bit, or small, of any size.
    pub(super) fn operand(&mut self) -> u64 {
        let bits = self.pick(&[8, 16, 32, 64]);
        let sign = 1u64 << (bits - 1);
        let value = match self.below(10) {
            0 => 0,
            1 => 1,
            2 => u64::MAX,
            3 => sign,
            4 => sign - 1,
            5 => sign.wrapping_add(self.below(5)).wrapping_sub(2),
            6 => self.below(256),
            7 => self.below(70).wrapping_neg(),
            _ => return self.next(),
        };
        // The bits above are to be ignored, or not.
        match self.below(4) {
            0 => value | self.next() & !(u64::MAX >> (64 - bits)),
            1 => (value << (64 - bits)).cast_signed().wrapping_shr(64 - bits).cast_unsigned(),
            _ => value,
        }
    }
}
