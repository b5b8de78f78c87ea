//! Reads and writes of guest virtual memory by instructions.
//!
//! An access that the TLB knows and that stays in its page is one load or store. The rest (page walks, faults, devices,
//! accesses that straddle pages) is in the cold functions.

use super::code::op::Op;
use super::cpu::{Cpu, DeviceAccess, NO_BASE, RBP, RSP, ZERO};
use super::flags::Flags;
use super::mmu::Place;
use super::mmu::tlb::Kind;
use super::mmu::walk::is_canonical;
use super::step::{Exception, Step, Stop};
use super::word::Word;

/// Of a write that is done completely or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Check,
    Write,
}

impl Cpu {
    /// Reads a value of size `T`, zero-extended.
    ///
    /// # Errors
    /// The access faults, or a device must answer first.
    #[inline(always)]
    pub(crate) fn read<T: Word>(&mut self, linear: u64) -> Step<u64> {
        if within_page::<T>(linear)
            && let Some(offset) = self.mmu.tlb.find(linear, Kind::Read, self.user)
        {
            return Ok(self.mmu.ram.load::<T>(offset).into());
        }
        self.read_slowly(linear, size_of::<T>(), self.user)
    }

    /// Writes a value of size `T`.
    ///
    /// # Errors
    /// The access faults, a device must answer first, or code must be forgotten first. Nothing has been written then.
    #[inline(always)]
    pub(crate) fn write<T: Word>(&mut self, linear: u64, value: u64) -> Step {
        if within_page::<T>(linear)
            && let Some(offset) = self.mmu.tlb.find(linear, Kind::Write, self.user)
        {
            self.mmu.ram.store::<T>(offset, T::truncate(value));
            return Ok(());
        }
        self.write_slowly(linear, size_of::<T>(), value, self.user)
    }

    /// Replaces a value of size `T` by what `compute` makes of it. The flags change only if the write succeeds.
    ///
    /// # Errors
    /// As for [`Self::write`].
    #[inline(always)]
    pub(crate) fn modify<T: Word>(
        &mut self,
        linear: u64,
        compute: impl FnOnce(&mut Flags, u64) -> u64,
    ) -> Step {
        if within_page::<T>(linear)
            && let Some(offset) = self.mmu.tlb.find(linear, Kind::Write, self.user)
        {
            let value = self.mmu.ram.load::<T>(offset).into();
            let result = compute(&mut self.flags, value);
            self.mmu.ram.store::<T>(offset, T::truncate(result));
            return Ok(());
        }
        self.check_write(linear, size_of::<T>())?;
        let value = self.read_slowly(linear, size_of::<T>(), self.user)?;
        let mut flags = self.flags;
        let result = compute(&mut flags, value);
        self.write_slowly(linear, size_of::<T>(), result, self.user)?;
        self.flags = flags;
        Ok(())
    }

    /// Reads a value as the CPU itself does, for descriptor tables and stacks of the kernel, whatever ring is running.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub(crate) fn read_system<T: Word>(&mut self, linear: u64) -> Step<u64> {
        self.read_slowly(linear, size_of::<T>(), false)
    }

    /// Writes a value as the CPU itself does.
    ///
    /// # Errors
    /// As for [`Self::write`].
    pub(crate) fn write_system<T: Word>(&mut self, linear: u64, value: u64) -> Step {
        self.write_slowly(linear, size_of::<T>(), value, false)
    }

    /// Where a byte at `linear` is.
    ///
    /// # Errors
    /// The access faults.
    pub(crate) fn locate(&mut self, linear: u64, kind: Kind, user: bool) -> Step<Place> {
        if let Some(offset) = self.mmu.tlb.find(linear, kind, user) {
            return Ok(Place::Ram(offset));
        }
        if !is_canonical(linear) {
            self.not_canonical = Some(linear);
            return self.protection();
        }
        match self.mmu.translate(linear, kind, user) {
            Ok(place) => Ok(place),
            Err(exception) => self.raise(exception),
        }
    }

    /// Reads bytes.
    ///
    /// # Errors
    /// The access faults, or leads where no RAM is.
    pub(crate) fn read_bytes(&mut self, linear: u64, to: &mut [u8]) -> Step {
        let mut done = 0;
        while let Some(rest) = to.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = linear.wrapping_add(done as u64);
            let len = to_page_end(at).min(rest.len());
            let place = self.locate(at, Kind::Read, self.user)?;
            let (Place::Ram(offset), Some(part)) = (place, rest.get_mut(..len)) else {
                return Err(Stop::Unknown);
            };
            self.mmu.ram.read(offset, part);
            done += len;
        }
        Ok(())
    }

    /// Writes bytes, all or none.
    ///
    /// # Errors
    /// As for [`Self::write`]; or it leads where no RAM is.
    pub(crate) fn write_bytes(&mut self, linear: u64, from: &[u8]) -> Step {
        for pass in [Pass::Check, Pass::Write] {
            let mut done = 0;
            while let Some(rest) = from.get(done..).filter(|rest| !rest.is_empty()) {
                let at = linear.wrapping_add(done as u64);
                let len = to_page_end(at).min(rest.len());
                let place = self.locate(at, Kind::Write, self.user)?;
                self.refuse_code(place)?;
                let (Place::Ram(offset), Some(part)) = (place, rest.get(..len)) else {
                    return Err(Stop::Unknown);
                };
                if pass == Pass::Write {
                    self.mmu.ram.write(offset, part);
                }
                done += len;
            }
        }
        Ok(())
    }

    /// Makes the protection exception for an address that is not canonical the stack exception that it is for accesses
    /// by stack and frame pointer.
    #[cold]
    pub(crate) fn name_segment(&mut self, op: &Op) {
        let Some(linear) = self.not_canonical.take() else { return };
        // The other operands that instructions have are not where the stack is.
        let near =
            |register: u8| linear.wrapping_sub(self.regs[usize::from(register)].wrapping_sub(16)) <= 32;
        let has_operand = op.base != ZERO || op.index != ZERO || op.disp != 0;
        let by_operand = op.segment == NO_BASE && matches!(op.base, RSP | RBP);
        let by_stack = near(RSP) || near(RBP);
        let in_operand = has_operand && linear.wrapping_sub(op.address(self)) < 16;
        if by_operand || by_stack && !in_operand {
            self.exception = Some(Exception::stack_fault(0));
        }
    }

    /// Checks that `len` bytes can be written, as a read-modify-write does before it reads.
    ///
    /// # Errors
    /// The access faults.
    #[cold]
    pub(crate) fn check_write(&mut self, linear: u64, len: usize) -> Step {
        self.locate(linear, Kind::Write, self.user)?;
        let first = to_page_end(linear);
        if first < len {
            self.locate(linear.wrapping_add(first as u64), Kind::Write, self.user)?;
        }
        Ok(())
    }

    #[cold]
    fn read_slowly(&mut self, linear: u64, len: usize, user: bool) -> Step<u64> {
        let place = self.locate(linear, Kind::Read, user)?;
        let first = to_page_end(linear).min(len);
        let mut value = self.read_place(place, first)?;
        if first < len {
            let rest = linear.wrapping_add(first as u64);
            let place = self.locate(rest, Kind::Read, user)?;
            value |= self.read_place(place, len - first)? << (8 * first);
        }
        Ok(value)
    }

    fn read_place(&mut self, place: Place, len: usize) -> Step<u64> {
        match place {
            Place::Ram(offset) | Place::Code(offset) => {
                let mut bytes = [0; 8];
                if let Some(bytes) = bytes.get_mut(..len) {
                    self.mmu.ram.read(offset, bytes);
                }
                Ok(u64::from_le_bytes(bytes))
            }
            Place::Device(address) => self.ask_device(address, len, None),
        }
    }

    #[cold]
    fn write_slowly(&mut self, linear: u64, len: usize, value: u64, user: bool) -> Step {
        let place = self.locate(linear, Kind::Write, user)?;
        let first = to_page_end(linear).min(len);
        if first < len {
            // Both pages before any byte, so that a fault on the second one leaves the first as it was.
            let rest = linear.wrapping_add(first as u64);
            let second = self.locate(rest, Kind::Write, user)?;
            self.refuse_code(place)?;
            self.write_place(second, len - first, value >> (8 * first))?;
        }
        self.write_place(place, first, value)
    }

    fn refuse_code(&mut self, place: Place) -> Step {
        match place {
            Place::Code(offset) => {
                self.code_written = offset & !0xfff;
                Err(Stop::Code)
            }
            _ => Ok(()),
        }
    }

    fn write_place(&mut self, place: Place, len: usize, value: u64) -> Step {
        match place {
            Place::Ram(offset) => {
                if let Some(bytes) = value.to_le_bytes().get(..len) {
                    self.mmu.ram.write_word(offset, bytes);
                }
                Ok(())
            }
            Place::Code(_) => self.refuse_code(place),
            Place::Device(address) => self.ask_device(address, len, Some(value)).map(|_| ()),
        }
    }

    /// What a device answers to an access of the running instruction, or the stop that asks it.
    fn ask_device(&mut self, address: u64, len: usize, write: Option<u64>) -> Step<u64> {
        let size = u8::try_from(len).unwrap_or(8);
        let write = write.map(|value| value & u64::MAX >> (64 - 8 * u32::from(size)));
        let access = DeviceAccess { address, size, write };
        if let Some((_, value)) = self.answered.iter().find(|(answered, _)| *answered == access) {
            return Ok(*value);
        }
        self.device = Some(access);
        Err(Stop::Device)
    }
}

#[inline(always)]
fn within_page<T: Word>(linear: u64) -> bool {
    linear & 0xfff <= 0x1000 - size_of::<T>() as u64
}

fn to_page_end(linear: u64) -> usize {
    usize::try_from(0x1000 - (linear & 0xfff)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::step::Exception;
    use super::super::testing::{DATA, TABLES, interpreter};
    use super::*;

    #[test]
    fn what_reaches_into_an_absent_page_faults_at_its_start() {
        let next = DATA + 0x1000;
        // add [rdi], rax; mov [rdi], rax; mov rax, [rdi]: read-modify-writes fault as writes
        for (code, error_code) in [([0x48, 0x01, 0x07], 2), ([0x48, 0x89, 0x07], 2), ([0x48, 0x8b, 0x07], 0)]
        {
            let mut interpreter = interpreter(&code);
            let cpu = &mut interpreter.cpu;
            cpu.write::<u64>(TABLES + 0x3000 + (next >> 12) * 8, 0).unwrap();
            cpu.regs[0] = 7;
            cpu.regs[7] = next - 3;
            assert_eq!(interpreter.step(), Err(Stop::Fault));
            let cpu = &mut interpreter.cpu;
            assert_eq!(cpu.exception, Some(Exception::page_fault(next, error_code)), "{code:x?}");
            assert_eq!(cpu.read::<u16>(next - 3), Ok(0));
        }
    }
}
