//! Guest RAM as KVM sees it: all of it, but for the pages that hold handlers, which are full of HLT instead.
//!
//! One page of HLT stands in for all of them, read-only: a program that can write to such a page (because the guest
//! maps it for programs, too) does not spoil it, but ends its guest with a message.
//!
//! KVM is told of the memory when the first program is about to run: where it has no hardware assistance it then makes
//! a table with eight bytes for each page, which a machine's start does not wait for.

use std::collections::{BTreeMap, BTreeSet};

use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::super::KvmError;
use crate::memory::{GuestMemory, layout, map_guest_ram};

/// Bytes of a page.
pub(super) const PAGE: u64 = 0x1000;
const HLT: u8 = 0xf4;
/// Where the slot is that only serves to be deleted: behind the pages that KVM needs itself.
const FLUSH_SLOT_ADDRESS: u64 = layout::KVM_TSS + 3 * PAGE;
const FLUSH_SLOT: u32 = 0;

/// A range of guest physical addresses that is one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    address: u64,
    len: u64,
    /// Address in the VMM.
    host: u64,
    read_only: bool,
}

/// The slots of one machine.
#[derive(Debug)]
pub(super) struct Slots {
    vm: VmFd,
    ram: Vec<Piece>,
    installed: BTreeMap<u32, Piece>,
    /// A page of HLT and a page for the slot that is deleted, and the RAM; kept for as long as KVM refers to them.
    own_pages: GuestMemory,
    _memory: GuestMemory,
}

impl Slots {
    /// Those for `vm` with `memory`, none of which KVM knows of before [`Self::replace_by_hlt`].
    ///
    /// # Errors
    /// Two pages are not to be had.
    pub(super) fn new(vm: VmFd, memory: &GuestMemory) -> Result<Self, KvmError> {
        let other = |error: &dyn std::fmt::Display| {
            KvmError::call("prepare guest memory")(std::io::Error::other(error.to_string()))
        };
        let own_pages = map_guest_ram(2 * PAGE).map_err(|error| other(&error))?;
        own_pages.write_slice(&[HLT; 0x1000], GuestAddress(0)).map_err(|error| other(&error))?;
        let mut ram = Vec::new();
        for region in memory.iter() {
            let start = region.start_addr();
            let host = host_address(memory, start.0)?;
            ram.push(Piece { address: start.0, len: region.len(), host, read_only: false });
        }
        Ok(Self { vm, ram, installed: BTreeMap::new(), own_pages, _memory: memory.clone() })
    }

    /// Whether a program cannot write at this physical address because HLTs are there.
    pub(super) fn is_hlt(&self, address: u64) -> bool {
        self.installed.values().any(|p| p.read_only && address >= p.address && address - p.address < p.len)
    }

    /// Lets KVM see all memory, with HLTs in place of exactly these pages. Forgets all shadow page tables if that changes
    /// anything.
    ///
    /// # Errors
    /// KVM refused.
    pub(super) fn replace_by_hlt(&mut self, pages: &BTreeSet<u64>) -> Result<(), KvmError> {
        if self.installed.is_empty() {
            self.set(FLUSH_SLOT, self.flush_piece()?)?;
        }
        let wanted = plan(&self.ram, pages, host_address(&self.own_pages, 0)?);
        let unwanted: Vec<u32> = self
            .installed
            .iter()
            .filter(|(slot, piece)| **slot != FLUSH_SLOT && !wanted.contains(piece))
            .map(|(slot, _)| *slot)
            .collect();
        for slot in unwanted {
            self.delete(slot)?;
        }
        let present: Vec<Piece> = self.installed.values().copied().collect();
        let mut free = (FLUSH_SLOT + 1..).filter({
            let used: BTreeSet<u32> = self.installed.keys().copied().collect();
            move |slot| !used.contains(slot)
        });
        for piece in wanted.into_iter().filter(|piece| !present.contains(piece)) {
            let Some(slot) = free.next() else { break };
            self.set(slot, piece)?;
        }
        Ok(())
    }

    /// Makes KVM forget all shadow page tables.
    ///
    /// # Errors
    /// KVM refused.
    pub(super) fn flush(&mut self) -> Result<(), KvmError> {
        self.delete(FLUSH_SLOT)?;
        self.set(FLUSH_SLOT, self.flush_piece()?)
    }

    fn flush_piece(&self) -> Result<Piece, KvmError> {
        let host = host_address(&self.own_pages, PAGE)?;
        Ok(Piece { address: FLUSH_SLOT_ADDRESS, len: PAGE, host, read_only: false })
    }

    fn set(&mut self, slot: u32, piece: Piece) -> Result<(), KvmError> {
        self.call(slot, &piece)?;
        self.installed.insert(slot, piece);
        Ok(())
    }

    fn delete(&mut self, slot: u32) -> Result<(), KvmError> {
        let Some(piece) = self.installed.remove(&slot) else { return Ok(()) };
        self.call(slot, &Piece { len: 0, ..piece })
    }

    fn call(&self, slot: u32, piece: &Piece) -> Result<(), KvmError> {
        let region = kvm_userspace_memory_region {
            slot,
            flags: if piece.read_only { KVM_MEM_READONLY } else { 0 },
            guest_phys_addr: piece.address,
            memory_size: piece.len,
            userspace_addr: piece.host,
        };
        // SAFETY: the piece lies in `own_pages` or `_memory`, which live as long as `self`, and the vCPU that reaches
        // it runs only while its owner holds `self`.
        unsafe { self.vm.set_user_memory_region(region) }.map_err(KvmError::call("change guest memory"))
    }
}

fn host_address(memory: &GuestMemory, address: u64) -> Result<u64, KvmError> {
    let host = memory.get_host_address(GuestAddress(address));
    let host = host.map_err(|error| KvmError::call("find guest memory")(std::io::Error::other(error)))?;
    Ok(host.expose_provenance() as u64)
}

/// The pieces that `ram` is cut into by `pages` (addresses of whole pages; those outside RAM count for nothing).
fn plan(ram: &[Piece], pages: &BTreeSet<u64>, hlt: u64) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for region in ram {
        let end = region.address + region.len;
        let mut at = region.address;
        let mut push_ram = |from: u64, to: u64| {
            if from < to {
                let host = region.host + (from - region.address);
                pieces.push(Piece { address: from, len: to - from, host, read_only: false });
            }
        };
        for page in pages.range(region.address..end) {
            push_ram(at, *page);
            at = page + PAGE;
        }
        push_ram(at, end);
        pieces.extend(pages.range(region.address..end).map(|page| Piece {
            address: *page,
            len: PAGE,
            host: hlt,
            read_only: true,
        }));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvm::Host;
    use crate::kvm::machine::create_vm;

    const RAM: [Piece; 2] = [
        Piece { address: 0, len: 0x10_000, host: 0x70_0000, read_only: false },
        Piece { address: 0x1_0000_0000, len: 0x2000, host: 0x80_0000, read_only: false },
    ];

    fn planned(pages: &[u64]) -> Vec<(u64, u64, u64, bool)> {
        let pages = pages.iter().copied().collect();
        let pieces = plan(&RAM, &pages, 0xf4000);
        pieces.iter().map(|p| (p.address, p.len, p.host, p.read_only)).collect()
    }

    #[test]
    fn without_handlers_each_region_is_one_piece() {
        assert_eq!(
            planned(&[]),
            [(0, 0x10_000, 0x70_0000, false), (0x1_0000_0000, 0x2000, 0x80_0000, false)]
        );
    }

    #[test]
    fn pages_of_handlers_are_cut_out_of_their_region() {
        assert_eq!(
            planned(&[0, 0x3000, 0x4000, 0x1_0000_1000]),
            [
                (0x1000, 0x2000, 0x70_1000, false),
                (0x5000, 0xb000, 0x70_5000, false),
                (0, 0x1000, 0xf4000, true),
                (0x3000, 0x1000, 0xf4000, true),
                (0x4000, 0x1000, 0xf4000, true),
                (0x1_0000_0000, 0x1000, 0x80_0000, false),
                (0x1_0000_1000, 0x1000, 0xf4000, true),
            ]
        );
    }

    #[test]
    fn kvm_is_told_of_memory_when_it_is_first_needed() {
        let host = match Host::open() {
            Ok(host) => host,
            Err(error) => return eprintln!("skipped: {error}"),
        };
        let mut slots =
            Slots::new(create_vm(&host).unwrap(), &map_guest_ram(16 * layout::MIB).unwrap()).unwrap();
        assert_eq!(slots.installed, BTreeMap::new());
        slots.replace_by_hlt(&BTreeSet::new()).unwrap();
        let ram: Vec<_> = slots.installed.values().map(|piece| (piece.address, piece.len)).collect();
        assert_eq!(ram, [(FLUSH_SLOT_ADDRESS, PAGE), (0, 16 * layout::MIB)]);
        slots.flush().unwrap();
        assert_eq!(slots.installed.len(), 2);
    }

    #[test]
    fn pages_outside_ram_count_for_nothing() {
        assert_eq!(planned(&[0xd000_0000, u64::MAX - 0xfff]), planned(&[]));
    }
}
