//! A hand-made guest: page tables, tables of the CPU, and a program of a few bytes.
//!
//! ```text
//!   virtual                          physical
//!   0x40_0000  program and its stack 0x40_0000 (2 MiB, user)
//!   0x100_0000 data, 4 KiB pages     0x80_0000 …
//!   HIGH       the kernel's          0 … 16 MiB (2 MiB pages)
//! ```

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress};

use super::super::{Ring3, Ring3Exit, Ring3State};
use crate::cpu::{CpuError, Exit, cpuid::Place};
use crate::kvm::syscall_msrs::SyscallMsrs;
use crate::kvm::{Host, event_frame::Frame};
use crate::memory::{GuestMemory, layout::MIB, map_guest_ram};

pub(super) const HIGH: u64 = 0xffff_ffff_8000_0000;
pub(super) const CODE: u64 = 0x40_0000;
pub(super) const STACK: u64 = 0x41_0000;
pub(super) const DATA: u64 = 0x100_0000;
pub(super) const DATA_PHYSICAL: u64 = 0x80_0000;
/// Last-level table of the data pages.
pub(super) const DATA_TABLE: u64 = 0x7000;
pub(super) const TASK: u64 = 0x9000;
pub(super) const TABLE: u64 = 0xa000;
pub(super) const HANDLERS: u64 = 0x11_0000;
pub(super) const LSTAR: u64 = HIGH + 0x11_4000;
pub(super) const KERNEL_STACK: u64 = HIGH + 0x30_0000;
/// Stack of #DB (IST 1).
pub(super) const DEBUG_STACK: u64 = HIGH + 0x31_0000;

pub(super) struct Guest {
    pub(super) ring3: Ring3,
    pub(super) memory: GuestMemory,
}

impl Guest {
    /// `None`, with the reason printed, where there is no KVM.
    pub(super) fn new() -> Option<Self> {
        let host = match Host::open() {
            Ok(host) => host,
            Err(error) => {
                eprintln!("skipped: {error}");
                return None;
            }
        };
        let memory = map_guest_ram(16 * MIB).unwrap();
        let guest = |memory: &GuestMemory| {
            let ring3 = Ring3::create(&host, memory, &host.cpuid(Place::ALONE).unwrap()).unwrap();
            Self { ring3, memory: memory.clone() }
        };
        let guest = guest(&memory);
        guest.write_page_tables();
        guest.write_descriptors();
        for vector in 0..256 {
            guest.set_gate(vector, HIGH + HANDLERS + vector * 32);
        }
        Some(guest)
    }

    pub(super) fn put(&self, physical: u64, value: u64) {
        self.memory.write_obj(value, GuestAddress(physical)).unwrap();
    }

    pub(super) fn get(&self, physical: u64) -> u64 {
        self.memory.read_obj(GuestAddress(physical)).unwrap()
    }

    fn write_page_tables(&self) {
        for (at, entry) in [
            (0x2000, 0x3007),
            (0x3000, 0x4007),
            (0x4000 + 2 * 8, 0x40_0087),
            (0x4000 + 8 * 8, DATA_TABLE | 7),
            (0x2000 + 511 * 8, 0x5003),
            (0x5000 + 510 * 8, 0x6003),
        ] {
            self.put(at, entry);
        }
        for page in 0..8 {
            self.put(0x6000 + page * 8, page << 21 | 0x83);
        }
        for page in 0..16 {
            self.put(DATA_TABLE + page * 8, (DATA_PHYSICAL + (page << 12)) | 7);
        }
    }

    fn write_descriptors(&self) {
        let gdt = 0x8000;
        self.put(gdt + 0x10, 0x00af_9b00_0000_ffff);
        self.put(gdt + 0x18, 0x00cf_9300_0000_ffff);
        self.put(gdt + 0x28, 0x00cf_f300_0000_ffff);
        self.put(gdt + 0x30, 0x00af_fb00_0000_ffff);
        self.put(TASK + 0x04, KERNEL_STACK);
        self.put(TASK + 0x24, DEBUG_STACK);
        // The I/O permission map: one byte behind the limit of 0x67, so that no port is permitted.
        self.memory.write_obj(0x68u16, GuestAddress(TASK + 0x66)).unwrap();
    }

    pub(super) fn set_gate(&self, vector: u64, handler: u64) {
        let user = matches!(vector, 3 | 4 | 0x80);
        let ist = u64::from(vector == 1);
        let low = (handler & 0xffff)
            | 0x10 << 16
            | ist << 32
            | if user { 0xee } else { 0x8e } << 40
            | (handler >> 16 & 0xffff) << 48;
        self.put(TABLE + vector * 16, low);
        self.put(TABLE + vector * 16 + 8, handler >> 32);
    }

    /// The state at the start of `code`, which is written to its place.
    pub(super) fn state(&self, code: &[u8]) -> Ring3State {
        self.memory.write_slice(code, GuestAddress(CODE)).unwrap();
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
            fs: kvm_segment { base: DATA + 0x100, ..data },
            gs: kvm_segment { base: DATA + 0x200, ..data },
            tr: task,
            cr0: 0x8005_0033,
            cr2: 0x77,
            cr3: 0x2000,
            cr4: 0x620,
            efer: 0xd01,
            ..Default::default()
        };
        (sregs.gdt.base, sregs.gdt.limit) = (HIGH + 0x8000, 0x7f);
        (sregs.idt.base, sregs.idt.limit) = (HIGH + TABLE, 0xfff);
        Ring3State {
            regs: kvm_regs { rip: CODE, rsp: STACK, rflags: 0x202, ..Default::default() },
            sregs,
            syscall: SyscallMsrs { star: 0x0023_0010_0000_0000, lstar: LSTAR, fmask: 0x25_7fd5 },
        }
    }

    pub(super) fn enter(&mut self, state: &mut Ring3State) -> Result<Ring3Exit, CpuError> {
        self.enter_until(state, None)
    }

    pub(super) fn enter_until(
        &mut self,
        state: &mut Ring3State,
        until: Option<u64>,
    ) -> Result<Ring3Exit, CpuError> {
        self.ring3.enter(state, until, &mut |exit: Exit<'_>| panic!("unexpected {exit:?}"))
    }

    /// Runs `code`, which must end at a handler, and returns the state there.
    pub(super) fn run(&mut self, code: &[u8]) -> Ring3State {
        let mut state = self.state(code);
        assert_eq!(self.enter(&mut state).unwrap(), Ring3Exit::Kernel);
        state
    }

    /// Runs `code`, which must kill the guest; what is said about that.
    pub(super) fn death(&mut self, change: impl FnOnce(&mut Ring3State), code: &[u8]) -> String {
        let mut state = self.state(code);
        change(&mut state);
        self.enter(&mut state).unwrap_err().to_string()
    }

    /// The frame on the kernel's stack.
    pub(super) fn frame(&self, state: &Ring3State) -> Frame {
        let mut bytes = [0; Frame::LEN];
        self.memory.read_slice(&mut bytes, GuestAddress(state.regs.rsp - HIGH)).unwrap();
        if matches!(vector(state), 8 | 10..=14 | 17) {
            return Frame::parse(bytes);
        }
        Frame::parse_without_error(bytes[..Frame::LEN_WITHOUT_ERROR].try_into().unwrap())
    }
}

/// The vector whose handler `state` is at.
pub(super) fn vector(state: &Ring3State) -> u64 {
    let offset = state.regs.rip - (HIGH + HANDLERS);
    assert_eq!(offset % 32, 0, "{:#x} is no handler", state.regs.rip);
    offset / 32
}
