//! The page table walk of long mode, with the manual's rules for permissions, reserved bits, and accessed and dirty
//! bits (Intel SDM volume 3A, sections 4.5 to 4.8). Four-level paging.

use super::super::ram::Ram;
use super::super::step::Exception;
use crate::cpu::control_bits::{CR0_PG, CR0_WP, CR4_SMEP, EFER_NXE};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
/// Bits 51:12 of an entry: the address it points to.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Bit of the error code of a page fault: an entry had a reserved bit set.
const FAULT_RESERVED: u32 = 1 << 3;

/// The registers that say how the guest translates addresses.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Paging {
    pub(crate) cr0: u64,
    pub(crate) cr3: u64,
    pub(crate) cr4: u64,
    pub(crate) efer: u64,
    /// Physical address bits that the CPU has; those above are reserved in entries.
    pub(crate) address_bits: u32,
}

/// One access.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access {
    pub(crate) linear: u64,
    pub(crate) write: bool,
    pub(crate) fetch: bool,
    /// By ring 3, rather than by the kernel or the CPU itself.
    pub(crate) user: bool,
}

/// Where a virtual address leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// Guest physical address.
    pub(crate) physical: u64,
    pub(crate) global: bool,
    /// Part of a page larger than 4 KiB.
    pub(crate) large: bool,
}

/// Whether `address` is canonical with 48 bits.
#[inline(always)]
pub(crate) fn is_canonical(address: u64) -> bool {
    (address << 16).cast_signed() >> 16 == address.cast_signed()
}

fn fault(access: Access, paging: &Paging, present: bool, reserved: bool) -> Exception {
    let fetch = access.fetch && (paging.efer & EFER_NXE != 0 || paging.cr4 & CR4_SMEP != 0);
    let error_code = u32::from(present)
        | u32::from(access.write) << 1
        | u32::from(access.user) << 2
        | if reserved { FAULT_RESERVED } else { 0 }
        | u32::from(fetch) << 4;
    Exception::page_fault(access.linear, error_code)
}

/// Translates an access, and sets the accessed and dirty bits that it sets. The address must be canonical.
///
/// # Errors
/// The page fault that the access takes.
pub(crate) fn walk(ram: &Ram, paging: &Paging, access: Access) -> Result<Mapping, Exception> {
    if paging.cr0 & CR0_PG == 0 {
        return Ok(Mapping { physical: access.linear, global: false, large: true });
    }
    let mut rights = Rights { writable: true, user: true, executable: true };
    let mut table = paging.cr3 & ADDRESS;
    for level in (0..4u32).rev() {
        let shift = 12 + 9 * level;
        let at = table | (access.linear >> shift & 0x1ff) << 3;
        let offset = ram.page_at(at).ok_or_else(|| fault(access, paging, false, false))?;
        let offset = offset | usize::try_from(at & 0xfff).unwrap_or_default();
        let entry: u64 = ram.load(offset);
        if entry & PRESENT == 0 {
            return Err(fault(access, paging, false, false));
        }
        let large = entry & LARGE != 0 && (level == 1 || level == 2);
        if has_reserved_bits(entry, level, large, paging) {
            return Err(fault(access, paging, true, true));
        }
        rights.narrow(entry, paging);
        let is_leaf = level == 0 || large;
        if is_leaf && !rights.allow(access, paging) {
            return Err(fault(access, paging, true, false));
        }
        let marks = ACCESSED | if is_leaf && access.write { DIRTY } else { 0 };
        if entry & marks != marks {
            ram.store(offset, entry | marks);
        }
        if is_leaf {
            let within = (1u64 << shift) - 1;
            let physical = (entry & ADDRESS & !within) | (access.linear & within);
            return Ok(Mapping { physical, global: entry & GLOBAL != 0, large });
        }
        table = entry & ADDRESS;
    }
    Err(fault(access, paging, false, false))
}

fn has_reserved_bits(entry: u64, level: u32, large: bool, paging: &Paging) -> bool {
    let mut reserved = ADDRESS & !((1u64 << paging.address_bits) - 1);
    if paging.efer & EFER_NXE == 0 {
        reserved |= NO_EXECUTE;
    }
    if level == 3 {
        reserved |= LARGE;
    }
    if large {
        // Bit 12 is PAT; the address bits below the page's size are reserved.
        reserved |= ((1u64 << (12 + 9 * level)) - 1) & !0x1fff;
    }
    entry & reserved != 0
}

struct Rights {
    writable: bool,
    user: bool,
    executable: bool,
}

impl Rights {
    fn narrow(&mut self, entry: u64, paging: &Paging) {
        self.writable &= entry & WRITABLE != 0;
        self.user &= entry & USER != 0;
        self.executable &= entry & NO_EXECUTE == 0 || paging.efer & EFER_NXE == 0;
    }

    fn allow(&self, access: Access, paging: &Paging) -> bool {
        let write_protected = access.user || paging.cr0 & CR0_WP != 0;
        let supervisor_must_not_run = !access.user && self.user && paging.cr4 & CR4_SMEP != 0;
        (self.user || !access.user)
            && (self.writable || !access.write || !write_protected)
            && (!access.fetch || self.executable && !supervisor_must_not_run)
    }
}
