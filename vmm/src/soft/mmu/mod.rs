//! From guest virtual addresses to bytes of RAM.
//!
//! [`walk`] reads the guest's page tables by the manual's rules, [`tlb`] remembers what it found. [`Mmu`] is both
//! together; the accesses of instructions themselves are in `access.rs` next to the CPU's registers.

pub(crate) mod tlb;
pub(crate) mod walk;

use super::ram::Ram;
use super::step::Exception;
use tlb::{Kind, Tlb};
use walk::{Access, Paging};

/// Where an access leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A byte of RAM, by its offset in [`Ram`].
    Ram(usize),
    /// A guest physical address where no RAM is.
    Device(u64),
    /// A byte in a page whose code has been decoded, by its offset: forget that first. Only for writes.
    Code(usize),
}

/// The memory management unit.
#[derive(Debug)]
pub(crate) struct Mmu {
    pub(crate) ram: Ram,
    pub(crate) tlb: Tlb,
    pub(crate) paging: Paging,
    /// One bit for each page of RAM: its code has been decoded for ring 0, so that writes must be noticed.
    code: Vec<u64>,
    /// The guest has flushed translations since ring 3 last ran natively.
    pub(crate) native_is_stale: bool,
    /// Page table walks.
    pub(crate) walks: u64,
}

impl Mmu {
    /// An MMU with paging switched off.
    pub(crate) fn new(ram: Ram) -> Self {
        let code = vec![0; ram.pages().div_ceil(64)];
        Self { ram, tlb: Tlb::default(), paging: Paging::default(), code, native_is_stale: true, walks: 0 }
    }

    /// Translates `linear` for an access by user or kernel code and remembers the translation.
    ///
    /// # Errors
    /// The page fault that the access takes.
    pub(crate) fn translate(&mut self, linear: u64, kind: Kind, user: bool) -> Result<Place, Exception> {
        self.walks += 1;
        let access = Access { linear, write: kind == Kind::Write, fetch: kind == Kind::Execute, user };
        let mapping = walk::walk(&self.ram, &self.paging, access)?;
        let Some(page) = self.ram.page_at(mapping.physical) else {
            return Ok(Place::Device(mapping.physical));
        };
        let within = usize::try_from(mapping.physical & 0xfff).unwrap_or_default();
        if kind == Kind::Write && self.is_code(page) {
            return Ok(Place::Code(page | within));
        }
        self.tlb.insert(linear, kind, user, page, mapping.global, mapping.large);
        Ok(Place::Ram(page | within))
    }

    /// Whether the page at offset `page` holds code that has been decoded.
    pub(crate) fn is_code(&self, page: usize) -> bool {
        self.code.get(page >> 18).is_some_and(|bits| bits >> (page >> 12 & 63) & 1 != 0)
    }

    /// Marks the page at offset `page`, or takes the mark away. Writes to a marked page give [`Place::Code`].
    pub(crate) fn set_code(&mut self, page: usize, is_code: bool) {
        let Some(bits) = self.code.get_mut(page >> 18) else { return };
        let bit = 1 << (page >> 12 & 63);
        if is_code && *bits & bit == 0 {
            *bits |= bit;
            self.tlb.forget_writes_to(page);
        } else if !is_code {
            *bits &= !bit;
        }
    }

    /// Forgets the translations that a write to CR3 makes invalid: all but the global ones.
    pub(crate) fn flush_non_global(&mut self) {
        self.tlb.flush_non_global();
        self.native_is_stale = true;
    }

    /// Forgets all translations.
    pub(crate) fn flush_all(&mut self) {
        self.tlb.flush_all();
        self.native_is_stale = true;
    }

    /// Forgets the translation of one page.
    pub(crate) fn flush_page(&mut self, linear: u64) {
        self.tlb.flush_page(linear);
        self.native_is_stale = true;
    }
}
