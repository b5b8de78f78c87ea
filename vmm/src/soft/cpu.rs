//! The state of the CPU that the interpreter works on.

use kvm_bindings::{kvm_regs, kvm_sregs};

use super::extended::Extended;
use super::flags::Flags;
use super::mmu::Mmu;
use super::ram::Ram;
use super::step::{Exception, Step, Stop};
use super::system::System;
use super::word::Word;
use crate::cpu::xstate::Layout;

/// Numbers of general registers, as instructions encode them.
pub(crate) const RAX: u8 = 0;
pub(crate) const RCX: u8 = 1;
pub(crate) const RDX: u8 = 2;
pub(crate) const RBX: u8 = 3;
pub(crate) const RSP: u8 = 4;
pub(crate) const RBP: u8 = 5;
pub(crate) const RSI: u8 = 6;
pub(crate) const RDI: u8 = 7;
pub(crate) const R11: u8 = 11;
/// A register that is always zero: what an address without base or index uses.
pub(crate) const ZERO: u8 = 16;
/// Added to the number of RAX to RBX: their second byte (AH, CH, DH, BH) as an 8-bit register.
pub(crate) const HIGH_BYTE: u8 = 16;

/// Segments whose base counts in long mode; the others' is zero.
pub(crate) const NO_BASE: u8 = 0;
pub(crate) const FS: u8 = 1;
pub(crate) const GS: u8 = 2;

/// An access to an I/O port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortAccess {
    pub(crate) port: u16,
    /// Bytes.
    pub(crate) size: u8,
    /// What to write; `None` to read.
    pub(crate) write: Option<u32>,
}

/// An access to guest physical memory where no RAM is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceAccess {
    pub(crate) address: u64,
    /// Bytes.
    pub(crate) size: u8,
    /// What to write; `None` to read.
    pub(crate) write: Option<u64>,
}

/// Everything that the guest's CPU holds.
#[derive(Debug)]
pub(crate) struct Cpu {
    /// General registers, then [`ZERO`]. The length makes every masked index valid.
    pub(crate) regs: [u64; 32],
    /// Address of the next instruction; while one runs, of the last one that was known.
    pub(crate) rip: u64,
    pub(crate) flags: Flags,
    /// Bases by segment number: none, FS, GS.
    pub(crate) bases: [u64; 4],
    /// Ring 3.
    pub(crate) user: bool,
    pub(crate) mmu: Mmu,
    /// Segments, tables, and the control registers as they were loaded; `mmu.paging` has those that paging uses.
    pub(crate) sregs: kvm_sregs,
    /// What system instructions work on besides.
    pub(crate) system: System,
    /// The instruction before was one behind which no interrupt is taken yet (STI, MOV SS). To be cleared, and honoured,
    /// by who runs instructions.
    pub(crate) shadow: bool,
    /// Start of the page that holds the running instruction.
    pub(crate) page: u64,
    /// The exception of [`Stop::Fault`].
    pub(crate) exception: Option<Exception>,
    /// The address that made it a protection exception, if it was not canonical.
    pub(crate) not_canonical: Option<u64>,
    /// The access of [`Stop::Port`].
    pub(crate) port: Option<PortAccess>,
    /// What came of that access: what was read, or anything.
    pub(crate) port_answer: Option<u32>,
    /// FPU and vector units, while their state is here and not in KVM.
    pub(crate) extended: Option<Extended>,
    /// Where its components lie in memory.
    pub(crate) xstate: Layout,
    pub(crate) xcr0: u64,
    /// XCR0 was written since KVM was told.
    pub(crate) xcr0_is_new: bool,
    /// The access of [`Stop::Device`].
    pub(crate) device: Option<DeviceAccess>,
    /// Accesses of the running instruction that devices have answered, with the value for reads.
    pub(crate) answered: Vec<(DeviceAccess, u64)>,
    /// The page of [`Stop::Code`], by its offset in RAM.
    pub(crate) code_written: usize,
}

impl Cpu {
    /// A CPU over `ram` with registers as given.
    pub(crate) fn new(ram: Ram, regs: &kvm_regs, sregs: &kvm_sregs, address_bits: u32) -> Self {
        let mut cpu = Self {
            regs: [0; 32],
            rip: 0,
            flags: Flags::default(),
            bases: [0; 4],
            user: false,
            mmu: Mmu::new(ram),
            sregs: *sregs,
            system: System::default(),
            shadow: false,
            page: 0,
            exception: None,
            not_canonical: None,
            port: None,
            port_answer: None,
            extended: None,
            xstate: Layout::from_cpuid(&[]),
            xcr0: 1,
            xcr0_is_new: true,
            device: None,
            answered: Vec::new(),
            code_written: 0,
        };
        cpu.mmu.paging.address_bits = address_bits;
        cpu.import(regs, sregs);
        cpu
    }

    /// Takes over registers.
    pub(crate) fn import(&mut self, regs: &kvm_regs, sregs: &kvm_sregs) {
        let general = [
            regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp, regs.rsi, regs.rdi, regs.r8, regs.r9,
            regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
        ];
        self.regs[..16].copy_from_slice(&general);
        self.rip = regs.rip;
        self.flags.set(regs.rflags);
        self.sregs = *sregs;
        self.bases = [0, sregs.fs.base, sregs.gs.base, 0];
        self.user = sregs.cs.selector & 3 == 3;
        let paging = &mut self.mmu.paging;
        (paging.cr0, paging.cr3, paging.cr4, paging.efer) = (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer);
    }

    /// All registers, for ring 3 to go on with natively.
    pub(crate) fn export(&self) -> (kvm_regs, kvm_sregs) {
        let [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15, ..] = self.regs;
        let (rip, rflags) = (self.rip, self.flags.get());
        let regs = kvm_regs {
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rsp,
            rbp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            rip,
            rflags,
        };
        let mut sregs = self.sregs;
        let paging = &self.mmu.paging;
        (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (paging.cr0, paging.cr3, paging.cr4, paging.efer);
        sregs.fs.base = self.bases[FS as usize];
        sregs.gs.base = self.bases[GS as usize];
        (regs, sregs)
    }

    /// Whether no instruction waits for what a device or a port has answered.
    pub(crate) fn is_between_instructions(&self) -> bool {
        self.port_answer.is_none() && self.answered.is_empty()
    }

    /// The value of a general register, of which the instruction uses size `T`, zero-extended.
    #[inline(always)]
    pub(crate) fn get<T: Word>(&self, register: u8) -> u64 {
        if T::BITS == 8 {
            return self.regs[usize::from(register & 15)] >> ((register & HIGH_BYTE) >> 1) & 0xff;
        }
        self.regs[usize::from(register & 31)] & T::MASK
    }

    /// Sets a general register to a result of size `T`: 32-bit results clear the upper half, smaller ones leave it.
    #[inline(always)]
    pub(crate) fn set<T: Word>(&mut self, register: u8, value: u64) {
        match T::BITS {
            8 => {
                let shift = (register & HIGH_BYTE) >> 1;
                let whole = &mut self.regs[usize::from(register & 15)];
                *whole = *whole & !(0xff << shift) | (value & 0xff) << shift;
            }
            16 => {
                let whole = &mut self.regs[usize::from(register & 15)];
                *whole = *whole & !0xffff | value & 0xffff;
            }
            _ => self.regs[usize::from(register & 15)] = value & T::MASK,
        }
    }

    /// Raises an exception.
    #[cold]
    pub(crate) fn raise<T>(&mut self, exception: Exception) -> Step<T> {
        self.exception = Some(exception);
        Err(Stop::Fault)
    }

    /// Raises a general protection exception without a selector.
    #[cold]
    pub(crate) fn protection<T>(&mut self) -> Step<T> {
        self.raise(Exception::general_protection(0))
    }
}
