//! Loading segment registers, with the manual's checks (Intel SDM volume 3A, chapter 5; volume 2, "MOV", "IRET", "RET").

use kvm_bindings::kvm_segment;

use super::cpu::{Cpu, FS, GS};
use super::descriptors::{Found, in_error, is_null, null_segment, requested_level};
use super::step::{Exception, Step, Stop};

/// A segment register that data instructions load. CS is loaded by jumps only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Register {
    Es,
    Ss,
    Ds,
    Fs,
    Gs,
}

impl Register {
    /// By its number in instructions.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Es,
            2 => Self::Ss,
            3 => Self::Ds,
            4 => Self::Fs,
            5 => Self::Gs,
            _ => return None,
        })
    }
}

impl Cpu {
    /// What a segment register holds; its base may be out of date for FS and GS.
    pub(crate) fn segment_mut(&mut self, register: Register) -> &mut kvm_segment {
        match register {
            Register::Es => &mut self.sregs.es,
            Register::Ss => &mut self.sregs.ss,
            Register::Ds => &mut self.sregs.ds,
            Register::Fs => &mut self.sregs.fs,
            Register::Gs => &mut self.sregs.gs,
        }
    }

    fn set_segment(&mut self, register: Register, segment: kvm_segment) {
        match register {
            Register::Fs => self.bases[usize::from(FS)] = segment.base,
            Register::Gs => self.bases[usize::from(GS)] = segment.base,
            _ => {}
        }
        *self.segment_mut(register) = segment;
    }

    /// Loads a segment register. A null selector clears the base of FS and GS, as Intel's CPUs and newer ones of AMD do.
    ///
    /// # Errors
    /// The segment must not be loaded there, or its table faults.
    pub(crate) fn load_segment(&mut self, register: Register, selector: u16) -> Step {
        let segment = match register {
            Register::Ss => self.stack_segment(selector, self.level(), true)?,
            _ => self.data_segment(selector)?,
        };
        self.set_segment(register, segment);
        Ok(())
    }

    fn data_segment(&mut self, selector: u16) -> Step<kvm_segment> {
        if is_null(selector) {
            return Ok(null_segment(selector));
        }
        let found = self.named(selector)?;
        let descriptor = found.descriptor;
        let level = self.level().max(requested_level(selector));
        if !descriptor.is_readable() || !descriptor.is_conforming() && level > descriptor.level() {
            return self.raise(Exception::general_protection(in_error(selector)));
        }
        if !descriptor.is_present() {
            return self.raise(Exception::not_present(in_error(selector)));
        }
        self.mark_accessed(found)?;
        Ok(descriptor.load(selector))
    }

    /// The stack segment `selector` for code of privilege `level`, of 64-bit mode if `long`.
    ///
    /// # Errors
    /// It is none, or its table faults.
    pub(crate) fn stack_segment(&mut self, selector: u16, level: u8, long: bool) -> Step<kvm_segment> {
        if is_null(selector) {
            if level == 3 || !long || requested_level(selector) != level {
                return self.protection();
            }
            return Ok(null_segment(selector));
        }
        let found = self.named(selector)?;
        let descriptor = found.descriptor;
        if requested_level(selector) != level || descriptor.level() != level || !descriptor.is_writable() {
            return self.raise(Exception::general_protection(in_error(selector)));
        }
        if !descriptor.is_present() {
            return self.raise(Exception::stack_fault(in_error(selector)));
        }
        self.mark_accessed(found)?;
        Ok(descriptor.load(selector))
    }

    /// The code segment `selector`, which code of privilege `level` goes on in: the requested one for returns, the current
    /// one for jumps.
    ///
    /// # Errors
    /// It is none, or its table faults.
    pub(crate) fn code_segment(&mut self, selector: u16, level: u8) -> Step<kvm_segment> {
        if is_null(selector) {
            return self.protection();
        }
        let found = self.named(selector)?;
        let code = found.descriptor;
        let reaches = if code.is_conforming() { code.level() <= level } else { code.level() == level };
        let is_allowed = level >= self.level() && requested_level(selector) <= level && reaches;
        // Nobody uses rings 1 and 2.
        let is_known_level = level == 0 || level == 3;
        if !code.is_code() || !is_allowed || !is_known_level || code.is_long() && code.is_big() {
            return self.raise(Exception::general_protection(in_error(selector)));
        }
        if !code.is_present() {
            return self.raise(Exception::not_present(in_error(selector)));
        }
        if level == 0 && !code.is_long() {
            // The kernel leaves 64-bit mode: nothing that is interpreted here.
            return Err(Stop::Unknown);
        }
        self.mark_accessed(found)?;
        Ok(code.load(selector & !3 | u16::from(level)))
    }

    /// Empties the data segment registers that ring 3 must not inherit.
    pub(crate) fn drop_kernel_segments(&mut self) {
        for register in [Register::Es, Register::Ds, Register::Fs, Register::Gs] {
            let segment = self.segment_mut(register);
            let is_conforming = segment.type_ & 0b1100 == 0b1100;
            if segment.unusable == 0 && segment.dpl < 3 && !is_conforming {
                // The base stays: 64-bit kernels set it apart from the selector.
                *segment = kvm_segment { base: segment.base, ..null_segment(0) };
            }
        }
    }

    fn named(&mut self, selector: u16) -> Step<Found> {
        match self.descriptor(selector)? {
            Some(found) => Ok(found),
            None => self.raise(Exception::general_protection(in_error(selector))),
        }
    }
}
