//! RFLAGS, with the arithmetic flags computed only when something asks for them.
//!
//! An instruction leaves behind what the flags follow from: its result, and the vector of carries out of each bit. Most
//! of that is overwritten by the next instruction without having been looked at.

use super::word::Word;

pub(crate) const CF: u64 = 1;
/// Bit 1 is always set.
pub(crate) const FIXED: u64 = 1 << 1;
pub(crate) const PF: u64 = 1 << 2;
pub(crate) const AF: u64 = 1 << 4;
pub(crate) const ZF: u64 = 1 << 6;
pub(crate) const SF: u64 = 1 << 7;
pub(crate) const TF: u64 = 1 << 8;
pub(crate) const IF: u64 = 1 << 9;
pub(crate) const DF: u64 = 1 << 10;
pub(crate) const OF: u64 = 1 << 11;
pub(crate) const IOPL: u64 = 3 << 12;
pub(crate) const NT: u64 = 1 << 14;
pub(crate) const RF: u64 = 1 << 16;
pub(crate) const AC: u64 = 1 << 18;
pub(crate) const ID: u64 = 1 << 21;
/// The flags that arithmetic sets.
pub(crate) const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;

/// The flags register.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flags {
    /// ZF is set when this is zero.
    zero: u64,
    /// Bit 63 is SF; PF is the parity of the low byte.
    sign: u64,
    /// Bit 63 is CF; OF is bit 63 xor bit 62.
    carry: u64,
    /// Bit 4 is AF.
    adjust: u64,
    /// The other flags.
    rest: u64,
}

impl Flags {
    /// The register with all flags in their places.
    pub(crate) fn get(&self) -> u64 {
        let bit = |set: bool, flag: u64| if set { flag } else { 0 };
        self.rest
            | FIXED
            | bit(self.carry(), CF)
            | bit(self.parity(), PF)
            | self.adjust & AF
            | bit(self.zero(), ZF)
            | bit(self.sign(), SF)
            | bit(self.overflow(), OF)
    }

    /// Sets all flags.
    pub(crate) fn set(&mut self, value: u64) {
        self.rest = value & !ARITHMETIC & !FIXED;
        self.set_arithmetic(value);
    }

    /// Sets the arithmetic flags to those in `value`.
    pub(crate) fn set_arithmetic(&mut self, value: u64) {
        self.zero = u64::from(value & ZF == 0);
        // An odd number of bits in the low byte clears PF.
        self.sign = u64::from(value & SF != 0) << 63 | u64::from(value & PF == 0);
        self.set_carry_and_overflow(value & CF != 0, value & OF != 0);
        self.adjust = value & AF;
    }

    /// The flags other than the arithmetic ones.
    #[inline(always)]
    pub(crate) fn rest(&self) -> u64 {
        self.rest
    }

    /// Sets those of the `mask`ed flags, which are not arithmetic ones, that `value` has, and clears the others.
    pub(crate) fn set_rest(&mut self, mask: u64, value: u64) {
        let mask = mask & !ARITHMETIC & !FIXED;
        self.rest = self.rest & !mask | value & mask;
    }

    /// After `a + b (+ carry)` of size `T` gave `result`, of which bits beyond the size do not count. The operands are
    /// zero-extended.
    #[inline(always)]
    pub(crate) fn add<T: Word>(&mut self, a: u64, b: u64, result: u64) {
        self.result::<T>(result);
        self.carry = ((a & b) | ((a | b) & !result)) << (64 - T::BITS);
        self.adjust = a ^ b ^ result;
    }

    /// After `a - b (- borrow)` of size `T`.
    #[inline(always)]
    pub(crate) fn subtract<T: Word>(&mut self, a: u64, b: u64, result: u64) {
        self.result::<T>(result);
        self.carry = ((!a & b) | ((!a | b) & result)) << (64 - T::BITS);
        self.adjust = a ^ b ^ result;
    }

    /// After a bitwise operation: no carry, no overflow, AF cleared (it is undefined).
    #[inline(always)]
    pub(crate) fn logic<T: Word>(&mut self, result: u64) {
        self.result::<T>(result);
        self.carry = 0;
        self.adjust = 0;
    }

    /// Sets ZF, SF and PF for a result of size `T`.
    #[inline(always)]
    pub(crate) fn result<T: Word>(&mut self, result: u64) {
        let result = T::sign_extend(result);
        self.zero = result;
        self.sign = result;
    }

    /// Sets CF and OF.
    #[inline(always)]
    pub(crate) fn set_carry_and_overflow(&mut self, carry: bool, overflow: bool) {
        self.carry = u64::from(carry) << 63 | u64::from(carry ^ overflow) << 62;
    }

    /// Sets CF and leaves OF alone.
    #[inline(always)]
    pub(crate) fn set_carry(&mut self, carry: bool) {
        self.set_carry_and_overflow(carry, self.overflow());
    }

    /// Sets ZF and leaves the others alone.
    #[inline(always)]
    pub(crate) fn set_zero(&mut self, zero: bool) {
        self.zero = u64::from(!zero);
    }

    /// CF.
    #[inline(always)]
    pub(crate) fn carry(&self) -> bool {
        self.carry >> 63 != 0
    }

    /// OF.
    #[inline(always)]
    pub(crate) fn overflow(&self) -> bool {
        (self.carry ^ self.carry << 1) >> 63 != 0
    }

    /// ZF.
    #[inline(always)]
    pub(crate) fn zero(&self) -> bool {
        self.zero == 0
    }

    /// SF.
    #[inline(always)]
    pub(crate) fn sign(&self) -> bool {
        self.sign >> 63 != 0
    }

    /// PF.
    #[inline(always)]
    pub(crate) fn parity(&self) -> bool {
        (self.sign & 0xff).count_ones().is_multiple_of(2)
    }

    /// Whether condition code `CONDITION` holds (Intel SDM volume 1, appendix B): 0 is O, 1 NO, 2 B, … 15 NLE.
    #[inline(always)]
    pub(crate) fn holds<const CONDITION: u8>(&self) -> bool {
        let base = match CONDITION >> 1 {
            0 => self.overflow(),
            1 => self.carry(),
            2 => self.zero(),
            3 => self.carry() | self.zero(),
            4 => self.sign(),
            5 => self.parity(),
            6 => self.sign() != self.overflow(),
            _ => self.zero() | (self.sign() != self.overflow()),
        };
        base != (CONDITION & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_set_is_what_is_got(value: u64) {
            let mut flags = Flags::default();
            flags.set(value);
            prop_assert_eq!(flags.get(), value | FIXED);
        }

        #[test]
        fn additions_carry_and_overflow_as_the_hosts_do(a: u8, b: u8, carry: bool) {
            let mut flags = Flags::default();
            let sum = u64::from(a) + u64::from(b) + u64::from(carry);
            flags.add::<u8>(a.into(), b.into(), sum);
            let signed = i16::from(a.cast_signed()) + i16::from(b.cast_signed()) + i16::from(carry);
            prop_assert_eq!(flags.carry(), sum > 0xff);
            prop_assert_eq!(flags.overflow(), i8::try_from(signed).is_err());
            prop_assert_eq!(flags.zero(), sum & 0xff == 0);
            prop_assert_eq!(flags.sign(), sum & 0x80 != 0);
            prop_assert_eq!(flags.get() & AF != 0, (a & 15) + (b & 15) + u8::from(carry) > 15);
        }

        #[test]
        fn subtractions_borrow_and_overflow_as_the_hosts_do(a: u16, b: u16) {
            let mut flags = Flags::default();
            flags.subtract::<u16>(a.into(), b.into(), u64::from(a).wrapping_sub(b.into()));
            let (a_signed, b_signed) = (a.cast_signed(), b.cast_signed());
            prop_assert_eq!(flags.carry(), a < b);
            prop_assert_eq!(flags.overflow(), a_signed.checked_sub(b_signed).is_none());
            prop_assert_eq!(flags.zero(), a == b);
            // Conditions B, NBE, L, NLE.
            let conditions = (flags.holds::<2>(), flags.holds::<7>(), flags.holds::<12>(), flags.holds::<15>());
            prop_assert_eq!(conditions, (a < b, a > b, a_signed < b_signed, a_signed > b_signed));
        }
    }

    #[test]
    fn the_carry_can_be_set_alone() {
        let mut flags = Flags::default();
        flags.set(OF | ZF | SF | PF | AF);
        flags.set_carry(true);
        assert_eq!(flags.get() & ARITHMETIC, OF | ZF | SF | PF | AF | CF);
    }
}
