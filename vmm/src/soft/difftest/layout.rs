//! The guest in which both sides run a case: the same memory twice.
//!
//! ```text
//!   virtual                                       physical
//!   CODE   two pages, for reading and running     0x40_0000  the code, in a sea of HLT; no third page
//!   DATA   eight pages, see PAGES                 0x80_0000
//!   HIGH   the kernel's tables and stacks         0 … 16 MiB
//! ```

use kvm_bindings::{kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress};

use super::case::Case;
use super::random::Random;
use crate::memory::{GuestMemory, layout::MIB, map_guest_ram};

/// First page of code.
pub(super) const CODE: u64 = 0x40_0000;
/// Bytes of code pages.
pub(super) const CODE_LEN: u64 = 0x2000;
/// First page of data.
pub(super) const DATA: u64 = 0x100_0000;
pub(super) const FS_BASE: u64 = 0x7f00_0000_1000;
pub(super) const GS_BASE: u64 = 0x60_0000;
/// What the guest's kernel has in the upper half.
const HIGH: u64 = 0xffff_ffff_8000_0000;
/// Handlers of all vectors, each of [`HANDLER_LEN`] bytes.
pub(super) const HANDLERS: u64 = HIGH + 0x11_0000;
pub(super) const HANDLER_LEN: u64 = 32;
/// Where SYSCALL leads.
pub(super) const SYSCALL_ENTRY: u64 = HIGH + 0x11_4000;
pub(super) const KERNEL_STACK: u64 = HIGH + 0x30_0000;

const PHYSICAL_CODE: u64 = 0x40_0000;
const PHYSICAL_DATA: u64 = 0x80_0000;
const CODE_TABLE: u64 = 0xb000;
const DATA_TABLE: u64 = 0x7000;
const TASK: u64 = 0x9000;
const INTERRUPT_TABLE: u64 = 0xa000;
const PAGE: u64 = 0x1000;

const READ_ONLY: u64 = 5;
const WRITABLE: u64 = 7;
const KERNELS: u64 = 3;
const ABSENT: u64 = 0;
const NO_EXECUTE: u64 = 1 << 63;
/// Faults in ring 3.
const HLT: u8 = 0xf4;
/// What data pages hold is the same in all runs, so that a case can be run again.
const DATA_SEED: u64 = 0xca54e;

/// How the data pages are mapped. Of two neighbours only one can fault: which of two faults comes first is the CPU's choice.
pub(super) const PAGES: [u64; 8] =
    [WRITABLE, WRITABLE, READ_ONLY, WRITABLE, ABSENT, WRITABLE, KERNELS, WRITABLE];

/// Bytes of all data pages.
const DATA_LEN: usize = PAGES.len() << 12;

/// The memory of one side.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) memory: GuestMemory,
    data: Vec<u8>,
}

impl Guest {
    pub(super) fn new() -> Self {
        let mut random = Random::new(DATA_SEED);
        let data = (0..DATA_LEN / 8).flat_map(|_| random.next().to_le_bytes()).collect();
        let guest = Self { memory: map_guest_ram(16 * MIB).unwrap(), data };
        guest.write_tables();
        for page in 0..CODE_LEN / PAGE {
            guest.write(PHYSICAL_CODE + page * PAGE, &[HLT; 1 << 12]);
        }
        guest.reset_data();
        guest
    }

    fn write(&self, physical: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(physical)).unwrap();
    }

    fn put(&self, physical: u64, value: u64) {
        self.write(physical, &value.to_le_bytes());
    }

    /// A word at an address of the kernel.
    pub(super) fn kernel_word(&self, address: u64) -> u64 {
        self.memory.read_obj(GuestAddress(address - HIGH)).unwrap()
    }

    fn write_tables(&self) {
        for (at, entry) in [
            (0x2000, 0x3000 | WRITABLE),
            (0x3000, 0x4000 | WRITABLE),
            (0x4000 + (CODE >> 21) * 8, CODE_TABLE | WRITABLE),
            (0x4000 + (DATA >> 21) * 8, DATA_TABLE | WRITABLE),
            (0x2000 + 511 * 8, 0x5000 | KERNELS),
            (0x5000 + 510 * 8, 0x6000 | KERNELS),
        ] {
            self.put(at, entry);
        }
        for large_page in 0..8 {
            self.put(0x6000 + large_page * 8, large_page << 21 | 0x80 | KERNELS);
        }
        self.reset_pages();
        let gdt = 0x8000;
        self.put(gdt + 0x10, 0x00af_9b00_0000_ffff);
        self.put(gdt + 0x18, 0x00cf_9300_0000_ffff);
        self.put(gdt + 0x28, 0x00cf_f300_0000_ffff);
        self.put(gdt + 0x30, 0x00af_fb00_0000_ffff);
        self.put(TASK + 4, KERNEL_STACK);
        // The I/O permission map begins behind the limit: no port is permitted.
        self.write(TASK + 0x66, &0x68u16.to_le_bytes());
        for vector in 0..256 {
            let handler = HANDLERS + vector * HANDLER_LEN;
            let gate = if vector == 3 { 0xee } else { 0x8e };
            let low = handler & 0xffff | 0x10 << 16 | gate << 40 | (handler >> 16 & 0xffff) << 48;
            self.put(INTERRUPT_TABLE + vector * 16, low);
            self.put(INTERRUPT_TABLE + vector * 16 + 8, handler >> 32);
        }
    }

    /// Makes the pages as they were at first: neither accessed nor dirty.
    pub(super) fn reset_pages(&self) {
        for page in 0..CODE_LEN / PAGE {
            self.put(CODE_TABLE + page * 8, (PHYSICAL_CODE + page * PAGE) | READ_ONLY);
        }
        for (page, rights) in (0..).zip(PAGES) {
            self.put(DATA_TABLE + page * 8, (PHYSICAL_DATA + page * PAGE) | rights | NO_EXECUTE);
        }
    }

    /// The page table entries of code and data.
    pub(super) fn pages(&self) -> Vec<u64> {
        let entry = |at| self.memory.read_obj(GuestAddress(at)).unwrap();
        let code = (0..CODE_LEN / PAGE).map(|page| entry(CODE_TABLE + page * 8));
        code.chain((0..PAGES.len() as u64).map(|page| entry(DATA_TABLE + page * 8))).collect()
    }

    /// Writes the code and the memory of `case` to their places.
    pub(super) fn set_up(&self, case: &Case) {
        self.write(PHYSICAL_CODE + (case.start - CODE), &case.code);
        for (address, value) in &case.memory {
            for (offset, byte) in (0..).zip(value.to_le_bytes()) {
                let at = address.wrapping_add(offset);
                if (DATA..DATA + DATA_LEN as u64).contains(&at) {
                    self.write(PHYSICAL_DATA + (at - DATA), &[byte]);
                }
            }
        }
    }

    /// Removes what a case has left.
    pub(super) fn clean_up(&self, case: &Case) {
        self.write(PHYSICAL_CODE + (case.start - CODE), &vec![HLT; case.code.len()]);
        self.reset_data();
    }

    fn reset_data(&self) {
        self.write(PHYSICAL_DATA, &self.data);
    }

    /// What the data pages hold.
    pub(super) fn data(&self) -> Vec<u8> {
        let mut data = vec![0; DATA_LEN];
        self.memory.read_slice(&mut data, GuestAddress(PHYSICAL_DATA)).unwrap();
        data
    }

    /// Whether code has reached its end at `address`.
    pub(super) fn is_end(&self, address: u64) -> bool {
        let in_code = (CODE..CODE + CODE_LEN).contains(&address);
        in_code && self.memory.read_obj::<u8>(GuestAddress(address - CODE + PHYSICAL_CODE)).unwrap() == HLT
    }
}

/// System registers in ring 3.
pub(super) fn system_registers() -> kvm_sregs {
    let segment = |selector, type_, l| kvm_segment {
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        dpl: 3,
        db: 1 - l,
        s: 1,
        l,
        g: 1,
        ..Default::default()
    };
    let data = segment(0x2b, 3, 0);
    let task = kvm_segment {
        base: HIGH + TASK,
        limit: 0x67,
        selector: 0x40,
        type_: 11,
        present: 1,
        ..Default::default()
    };
    let mut sregs = kvm_sregs {
        cs: segment(0x33, 11, 1),
        ds: data,
        es: data,
        ss: data,
        fs: kvm_segment { base: FS_BASE, ..data },
        gs: kvm_segment { base: GS_BASE, ..data },
        tr: task,
        cr0: 0x8005_0033,
        cr3: 0x2000,
        cr4: 0x4_0620,
        efer: 0xd01,
        ..Default::default()
    };
    (sregs.gdt.base, sregs.gdt.limit) = (HIGH + 0x8000, 0x7f);
    (sregs.idt.base, sregs.idt.limit) = (HIGH + INTERRUPT_TABLE, 0xfff);
    sregs
}
