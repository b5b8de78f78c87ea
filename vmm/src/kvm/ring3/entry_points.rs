//! Where events in ring 3 lead to: the handlers that the guest's interrupt table and LSTAR name, and the physical pages
//! they begin in.
//!
//! Only gates that ring 3 can get through count. Others may name anything: Linux leaves those of exceptions that do not
//! exist with its first handlers, whose pages it gives to programs once it has booted.
//!
//! Looked at before each entry. The table's bytes are compared each time, since a guest changes them when it likes.
//! Translations are kept for as long as CR3, the paging mode, IDTR and LSTAR stay and nobody calls
//! [`EntryPoints::forget_translations`], which is due whenever the guest flushes its TLB; if any was missing, they are
//! looked for again each time, because a page that appears needs no flush.

use std::collections::BTreeSet;

use kvm_bindings::kvm_sregs;
use vm_memory::{Bytes, GuestAddress};

use super::super::gate::Gate;
use super::slots::PAGE;
use crate::cpu::control_bits::CR4_LA57;
use crate::cpu::page_walk::{self, Paging};
use crate::memory::GuestMemory;

/// Bytes of a table with all 256 gates.
const TABLE: usize = 256 * Gate::LEN;
const INVALID_OPCODE: usize = 6;
const PAGE_FAULT: usize = 14;
/// Exceptions that a CPU raises in ring 3 (AMD manual volume 2, table 8-1): bit N for vector N. Machine checks and the
/// exceptions of virtualisation and control-flow protection are not among them: guests have nothing that raises these.
const EXCEPTIONS: u32 = 0b1011_0111_1101_1111_1011;
/// Privilege level of gates that programs may call.
const USER: u8 = 3;

/// What the translations depend on, besides the page tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Key {
    cr0: u64,
    cr3: u64,
    cr4: u64,
    efer: u64,
    table: u64,
    limit: u16,
    lstar: u64,
}

/// A part of the table that is contiguous in guest physical memory.
#[derive(Debug)]
struct TablePart {
    physical: u64,
    start: usize,
    len: usize,
}

/// The entry points of the guest as last seen.
#[derive(Debug, Default)]
pub(super) struct EntryPoints {
    key: Option<Key>,
    parts: Vec<TablePart>,
    table: Vec<u8>,
    /// Where the table is read to, to be compared.
    fresh: Vec<u8>,
    /// Addresses of all handlers, sorted.
    handlers: Vec<u64>,
    page_fault: Option<u64>,
    invalid_opcode: Option<u64>,
    /// Physical addresses of the pages they begin in, once looked for.
    pages: Option<BTreeSet<u64>>,
}

impl EntryPoints {
    /// The guest has flushed its TLB: translations may have changed.
    pub(super) fn forget_translations(&mut self) {
        self.key = None;
    }

    /// Whether `address` is where a handler begins.
    pub(super) fn contain(&self, address: u64) -> bool {
        self.handlers.binary_search(&address).is_ok()
    }

    /// The handler of page faults, if there is one.
    pub(super) fn page_fault(&self) -> Option<u64> {
        self.page_fault
    }

    /// The handler of invalid opcodes, if there is one.
    pub(super) fn invalid_opcode(&self) -> Option<u64> {
        self.invalid_opcode
    }

    /// Looks at them again; the pages they are in, the first time and whenever these are others than before.
    pub(super) fn refresh(
        &mut self,
        memory: &GuestMemory,
        sregs: &kvm_sregs,
        lstar: u64,
    ) -> Option<&BTreeSet<u64>> {
        let paging = Paging::from(sregs);
        let (table, limit) = (sregs.idt.base, sregs.idt.limit);
        let Paging { cr0, cr3, cr4, efer } = paging;
        let key = Some(Key { cr0, cr3, cr4, efer, table, limit, lstar });
        let translate_again = self.key != key;
        if translate_again {
            self.parts = table_parts(memory, paging, table, limit);
        }
        self.fresh.clear();
        self.fresh.resize(TABLE, 0);
        for part in &self.parts {
            if let Some(bytes) = self.fresh.get_mut(part.start..part.start + part.len) {
                // Where there is no RAM, there is no gate.
                let _ = memory.read_slice(bytes, GuestAddress(part.physical));
            }
        }
        if self.fresh == self.table && !translate_again {
            return None;
        }
        std::mem::swap(&mut self.fresh, &mut self.table);
        self.find_handlers(lstar);
        let (pages, all_found) = self.find_pages(memory, paging);
        let table_found = self.parts.iter().map(|part| part.len).sum::<usize>() == table_len(limit);
        self.key = key.filter(|_| all_found && table_found);
        if self.pages.as_ref() == Some(&pages) {
            return None;
        }
        Some(self.pages.insert(pages))
    }

    fn find_handlers(&mut self, lstar: u64) {
        let gates: Vec<Option<u64>> = self
            .table
            .as_chunks()
            .0
            .iter()
            .enumerate()
            .map(|(vector, bytes)| {
                let gate = Gate::parse(*bytes);
                let is_reached = gate.level == USER || is_exception(vector);
                (gate.is_present && is_reached).then_some(gate.handler)
            })
            .collect();
        self.page_fault = gates.get(PAGE_FAULT).copied().flatten();
        self.invalid_opcode = gates.get(INVALID_OPCODE).copied().flatten();
        self.handlers = gates.into_iter().flatten().chain([lstar]).collect();
        self.handlers.sort_unstable();
        self.handlers.dedup();
    }

    /// The physical pages of all handlers, and whether none was missing.
    fn find_pages(&self, memory: &GuestMemory, paging: Paging) -> (BTreeSet<u64>, bool) {
        let mut pages = BTreeSet::new();
        let mut all_found = true;
        let mut last = None;
        for handler in &self.handlers {
            let page = handler & !(PAGE - 1);
            if last.replace(page) == Some(page) || !is_canonical(*handler, paging) {
                continue;
            }
            match page_walk::translate(memory, paging, page) {
                Some(physical) => {
                    pages.insert(physical & !(PAGE - 1));
                }
                None => all_found = false,
            }
        }
        (pages, all_found)
    }
}

/// Whether the CPU raises this vector in ring 3 by itself.
fn is_exception(vector: usize) -> bool {
    u32::try_from(vector)
        .ok()
        .and_then(|vector| EXCEPTIONS.checked_shr(vector))
        .is_some_and(|rest| rest & 1 == 1)
}

/// Bytes of all gates that are within the limit as a whole.
fn table_len(limit: u16) -> usize {
    (usize::from(limit) + 1).min(TABLE) / Gate::LEN * Gate::LEN
}

/// Where the table is in physical memory, as far as it is mapped.
fn table_parts(memory: &GuestMemory, paging: Paging, table: u64, limit: u16) -> Vec<TablePart> {
    let len = table_len(limit);
    let mut parts = Vec::new();
    let mut start = 0;
    while start < len {
        let at = table.wrapping_add(start as u64);
        let to_page_end = usize::try_from(PAGE - at % PAGE).unwrap_or(len);
        let part_len = to_page_end.min(len - start);
        if is_canonical(at, paging)
            && let Some(physical) = page_walk::translate(memory, paging, at)
        {
            parts.push(TablePart { physical, start, len: part_len });
        }
        start += part_len;
    }
    parts
}

/// Whether all the upper bits of an address are alike (Intel SDM volume 1, section 3.3.7.1).
fn is_canonical(address: u64, paging: Paging) -> bool {
    let unused = if paging.cr4 & CR4_LA57 == 0 { 16 } else { 7 };
    (address.cast_signed() << unused >> unused).cast_unsigned() == address
}

#[cfg(test)]
mod tests;
