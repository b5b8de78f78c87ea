//! Segment descriptors and the tables they are in (Intel SDM volume 3A, sections 3.4.5 and 3.5).

use kvm_bindings::kvm_segment;

use super::cpu::Cpu;
use super::step::Step;

/// Type of a system descriptor: local descriptor table.
pub(crate) const TYPE_LDT: u8 = 2;
/// Type of a system descriptor: 64-bit task state segment that is not in use.
pub(crate) const TYPE_TSS: u8 = 9;
/// Bit of the type of a task state segment: in use.
pub(crate) const TSS_BUSY: u8 = 2;
/// Bit of the type of a code or data segment: it has been loaded.
const ACCESSED: u8 = 1;
/// Bit of a selector: in the local table.
const LOCAL: u16 = 4;

/// The first eight bytes of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptor(pub(crate) u64);

/// A descriptor with the address it is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) address: u64,
    pub(crate) descriptor: Descriptor,
}

/// Privilege level that a selector asks for.
pub(crate) fn requested_level(selector: u16) -> u8 {
    selector.to_le_bytes()[0] & 3
}

/// Whether a selector names no descriptor.
pub(crate) fn is_null(selector: u16) -> bool {
    selector & !3 == 0
}

/// A selector in an error code.
pub(crate) fn in_error(selector: u16) -> u32 {
    u32::from(selector & !3)
}

/// A segment register without a segment.
pub(crate) fn null_segment(selector: u16) -> kvm_segment {
    kvm_segment { selector, dpl: requested_level(selector), unusable: 1, ..Default::default() }
}

impl Descriptor {
    fn bits<const FIRST: u32, const COUNT: u32>(self) -> u8 {
        (self.0 >> FIRST).to_le_bytes()[0] & ((1u16 << COUNT) - 1).to_le_bytes()[0]
    }

    /// The four bits of the type.
    pub(crate) fn type_(self) -> u8 {
        self.bits::<40, 4>()
    }

    /// Privilege level.
    pub(crate) fn level(self) -> u8 {
        self.bits::<45, 2>()
    }

    pub(crate) fn is_present(self) -> bool {
        self.bits::<47, 1>() != 0
    }

    /// A code segment of 64-bit mode.
    pub(crate) fn is_long(self) -> bool {
        self.bits::<53, 1>() != 0
    }

    /// 32 bits are the default size.
    pub(crate) fn is_big(self) -> bool {
        self.bits::<54, 1>() != 0
    }

    /// Code or data, rather than a system descriptor.
    pub(crate) fn is_segment(self) -> bool {
        self.bits::<44, 1>() != 0
    }

    pub(crate) fn is_code(self) -> bool {
        self.is_segment() && self.type_() & 8 != 0
    }

    /// Code that runs at its caller's privilege level.
    pub(crate) fn is_conforming(self) -> bool {
        self.is_code() && self.type_() & 4 != 0
    }

    pub(crate) fn is_readable(self) -> bool {
        self.is_segment() && (self.type_() & 8 == 0 || self.type_() & 2 != 0)
    }

    pub(crate) fn is_writable(self) -> bool {
        self.is_segment() && self.type_() & 0b1010 == 0b0010
    }

    /// Last byte of the segment.
    pub(crate) fn limit(self) -> u32 {
        let [a, b, _, _, _, _, c, _] = self.0.to_le_bytes();
        let limit = u32::from_le_bytes([a, b, c & 0xf, 0]);
        if self.bits::<55, 1>() != 0 { limit << 12 | 0xfff } else { limit }
    }

    /// First byte of the segment, the low 32 bits of it for system descriptors.
    pub(crate) fn base(self) -> u32 {
        let [_, _, a, b, c, _, _, d] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// What a segment register holds once it is loaded.
    pub(crate) fn load(self, selector: u16) -> kvm_segment {
        let accessed = if self.is_segment() { ACCESSED } else { 0 };
        kvm_segment {
            base: self.base().into(),
            limit: self.limit(),
            selector,
            type_: self.type_() | accessed,
            present: self.is_present().into(),
            dpl: self.level(),
            db: self.is_big().into(),
            s: self.is_segment().into(),
            l: self.is_long().into(),
            g: self.bits::<55, 1>(),
            avl: self.bits::<52, 1>(),
            ..Default::default()
        }
    }
}

impl Cpu {
    /// The descriptor that `selector` names; `None` if its table has none there.
    ///
    /// # Errors
    /// The table faults.
    pub(crate) fn descriptor(&mut self, selector: u16) -> Step<Option<Found>> {
        let table = if selector & LOCAL == 0 {
            Some((self.sregs.gdt.base, u32::from(self.sregs.gdt.limit)))
        } else {
            let table = &self.sregs.ldt;
            (table.unusable == 0 && table.present != 0).then_some((table.base, table.limit))
        };
        let Some((base, limit)) = table else { return Ok(None) };
        if is_null(selector) || u32::from(selector | 7) > limit {
            return Ok(None);
        }
        let address = base.wrapping_add(u64::from(selector & !7));
        let descriptor = Descriptor(self.read_system::<u64>(address)?);
        Ok(Some(Found { address, descriptor }))
    }

    /// Bits 63:32 of the base of a system descriptor, which is 16 bytes long; `None` if its end is not in the table.
    ///
    /// # Errors
    /// The table faults.
    pub(crate) fn upper_base(&mut self, selector: u16, found: Found) -> Step<Option<u64>> {
        if u32::from(selector | 7) + 8 > u32::from(self.sregs.gdt.limit) {
            return Ok(None);
        }
        let upper = self.read_system::<u32>(found.address.wrapping_add(8))?;
        Ok(Some(upper << 32))
    }

    /// Sets bits of a descriptor's type in its table.
    ///
    /// # Errors
    /// The table cannot be written.
    pub(crate) fn mark_descriptor(&mut self, found: Found, bits: u8) -> Step {
        if found.descriptor.type_() & bits == bits {
            return Ok(());
        }
        let at = found.address.wrapping_add(5);
        let access = self.read_system::<u8>(at)?;
        self.write_system::<u8>(at, access | u64::from(bits))
    }

    /// Marks a code or data segment as loaded.
    ///
    /// # Errors
    /// The table cannot be written.
    pub(crate) fn mark_accessed(&mut self, found: Found) -> Step {
        self.mark_descriptor(found, ACCESSED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soft::testing::tables::{self, KERNEL_CODE, USER_CODE, USER_DATA};

    #[test]
    fn a_descriptor_is_read_as_the_manual_says() {
        let code = Descriptor(0x00af_9a12_3456_ffff).load(KERNEL_CODE);
        assert_eq!((code.base, code.limit, code.selector), (0x12_3456, !0, KERNEL_CODE));
        assert_eq!((code.type_, code.s, code.dpl, code.present), (0xb, 1, 0, 1), "accessed once loaded");
        assert_eq!((code.l, code.db, code.g, code.avl), (1, 0, 1, 0));
        let small = Descriptor(0x1240_f234_5678_9abc);
        assert_eq!((small.base(), small.limit(), small.level()), (0x1234_5678, 0x9abc, 3));
        assert!(small.is_writable() && small.is_readable() && !small.is_code() && small.is_big());
    }

    #[test]
    fn tables_end_where_their_limit_says() {
        let mut cpu = tables::interpreter(&[]).cpu;
        assert!(cpu.descriptor(USER_CODE).unwrap().is_some());
        cpu.sregs.gdt.limit = USER_CODE - 3 + 6;
        assert_eq!(cpu.descriptor(USER_CODE).unwrap(), None);
        assert!(cpu.descriptor(USER_DATA).unwrap().is_some());
        assert_eq!(cpu.descriptor(3).unwrap(), None, "null");
        assert_eq!(cpu.descriptor(KERNEL_CODE | LOCAL).unwrap(), None, "there is no local table");
    }

    #[test]
    fn a_table_that_is_not_mapped_faults() {
        let mut cpu = tables::interpreter(&[]).cpu;
        cpu.sregs.gdt.base = 0x4000_0000;
        assert!(cpu.descriptor(KERNEL_CODE).is_err());
        assert_eq!(cpu.exception.unwrap().address, Some(0x4000_0010));
    }
}
