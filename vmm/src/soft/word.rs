//! The sizes an operand can have.

use std::fmt::Debug;

/// An operand of 1, 2, 4 or 8 bytes. Arithmetic is done on `u64`, zero-extended; the size says what counts.
pub(crate) trait Word: Copy + Default + Debug + Into<u64> + 'static {
    /// Size in bits.
    const BITS: u32;
    /// All bits of this size.
    const MASK: u64 = u64::MAX >> (64 - Self::BITS);

    /// The low bits of `value`.
    fn truncate(value: u64) -> Self;

    /// The low bits of `value`, extended by their sign.
    #[inline(always)]
    fn sign_extend(value: u64) -> u64 {
        let shift = 64 - Self::BITS;
        ((value << shift).cast_signed() >> shift).cast_unsigned()
    }
}

macro_rules! word {
    ($($type:ty),*) => {$(
        impl Word for $type {
            const BITS: u32 = <$type>::BITS;

            #[inline(always)]
            #[expect(clippy::cast_possible_truncation, reason = "its purpose")]
            fn truncate(value: u64) -> Self {
                value as Self
            }
        }
    )*};
}

word!(u8, u16, u32);

impl Word for u64 {
    const BITS: u32 = 64;

    #[inline(always)]
    fn truncate(value: u64) -> Self {
        value
    }
}
