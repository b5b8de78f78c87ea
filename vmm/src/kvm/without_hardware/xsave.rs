//! XSAVE, XRSTOR, XGETBV and XSETBV of ring 0, which the emulator lacks.
//!
//! Ring 3 runs natively, with the host's XCR0: it uses AVX and AVX-512 whatever the guest's kernel makes of CPUID. So the
//! kernel must save and restore all of that state when it switches between processes, or they corrupt each other. It
//! does by XSAVE, and this completes it: the state through KVM, the memory through the guest's page tables.

use iced_x86::{Code, Instruction, Register};
use kvm_bindings::{kvm_cpuid_entry2, kvm_regs, kvm_sregs, kvm_xsave};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress};

use super::super::KvmError;
use super::emulation::decode;
use super::inject::{Exception, advance, raise};
use crate::cpu::control_bits::CR0_TS;
use crate::cpu::page_walk;
use crate::cpu::xstate::{self, Layout, STATE_LEN};
use crate::memory::GuestMemory;

const LOW_HALF: u64 = 0xffff_ffff;
const PAGE: u64 = 4096;

/// The repair: where the components of the state lie.
#[derive(Debug)]
pub(super) struct Xsave {
    layout: Layout,
}

/// Either the guest takes an exception, or KVM failed.
enum Stop {
    Exception(Exception),
    Failed(KvmError),
}

impl From<KvmError> for Stop {
    fn from(error: KvmError) -> Self {
        Self::Failed(error)
    }
}

const GENERAL_PROTECTION: Stop = Stop::Exception(Exception::GeneralProtection);

impl Xsave {
    /// The repair for a vCPU with this CPUID.
    pub(super) fn new(cpuid: &[kvm_cpuid_entry2]) -> Self {
        Self { layout: Layout::from_cpuid(cpuid) }
    }

    /// Completes the instruction in `bytes` at RIP; returns whether it is one of these.
    ///
    /// # Errors
    /// KVM refused.
    pub(super) fn complete(
        &self,
        vcpu: &mut VcpuFd,
        memory: &GuestMemory,
        bytes: &[u8],
    ) -> Result<bool, KvmError> {
        let instruction = decode(bytes);
        let state = vcpu.sync_regs();
        let done = match instruction.code() {
            Code::Xsave64_mem | Code::Xsaveopt64_mem => {
                self.save(vcpu, memory, &instruction, &state.regs, &state.sregs)
            }
            Code::Xrstor64_mem => self.restore(vcpu, memory, &instruction, &state.regs, &state.sregs),
            Code::Xgetbv => get_control(vcpu, &state.regs),
            Code::Xsetbv => set_control(vcpu, &state.regs),
            _ => return Ok(false),
        };
        match done {
            Ok(()) => advance(vcpu, instruction.len())?,
            Err(Stop::Exception(exception)) => {
                advance(vcpu, 0)?;
                raise(vcpu, exception)?;
            }
            Err(Stop::Failed(error)) => return Err(error),
        }
        Ok(true)
    }

    fn save(
        &self,
        vcpu: &VcpuFd,
        memory: &GuestMemory,
        instruction: &Instruction,
        regs: &kvm_regs,
        sregs: &kvm_sregs,
    ) -> Result<(), Stop> {
        let requested = requested(regs) & enabled(vcpu)?;
        let len = self.layout.area_len(requested);
        let pages = area(memory, instruction, regs, sregs, len, true)?;
        let mut bytes = read(memory, &pages, len)?;
        xstate::save(&mut bytes, &state_of(vcpu)?, &self.layout, requested);
        write(memory, &pages, &bytes)
    }

    fn restore(
        &self,
        vcpu: &VcpuFd,
        memory: &GuestMemory,
        instruction: &Instruction,
        regs: &kvm_regs,
        sregs: &kvm_sregs,
    ) -> Result<(), Stop> {
        let enabled = enabled(vcpu)?;
        let requested = requested(regs) & enabled;
        let len = self.layout.area_len(requested);
        let pages = area(memory, instruction, regs, sregs, len, false)?;
        let bytes = read(memory, &pages, len)?;
        let mut state = state_of(vcpu)?;
        xstate::restore(&mut state, &bytes, &self.layout, requested, enabled)
            .map_err(|_| GENERAL_PROTECTION)?;
        set_state(vcpu, &state)
    }
}

/// The mask in EDX:EAX.
fn requested(regs: &kvm_regs) -> u64 {
    (regs.rax & LOW_HALF) | regs.rdx << 32
}

/// XCR0.
fn enabled(vcpu: &VcpuFd) -> Result<u64, KvmError> {
    let xcrs = vcpu.get_xcrs().map_err(KvmError::call("read XCR0"))?;
    Ok(xcrs.xcrs[0].value)
}

fn get_control(vcpu: &mut VcpuFd, regs: &kvm_regs) -> Result<(), Stop> {
    if regs.rcx & LOW_HALF != 0 {
        return Err(GENERAL_PROTECTION);
    }
    let value = enabled(vcpu)?;
    let regs = &mut vcpu.sync_regs_mut().regs;
    (regs.rax, regs.rdx) = (value & LOW_HALF, value >> 32);
    Ok(())
}

fn set_control(vcpu: &VcpuFd, regs: &kvm_regs) -> Result<(), Stop> {
    let mut xcrs = vcpu.get_xcrs().map_err(KvmError::call("read XCR0"))?;
    xcrs.xcrs[0].value = requested(regs);
    // KVM checks the value as the CPU does.
    if regs.rcx & LOW_HALF != 0 || vcpu.set_xcrs(&xcrs).is_err() {
        return Err(GENERAL_PROTECTION);
    }
    Ok(())
}

/// The physical pieces of the instruction's memory operand, `len` bytes long.
fn area(
    memory: &GuestMemory,
    instruction: &Instruction,
    regs: &kvm_regs,
    sregs: &kvm_sregs,
    len: usize,
    is_write: bool,
) -> Result<Vec<(u64, usize)>, Stop> {
    if sregs.cr0 & CR0_TS != 0 {
        return Err(Stop::Exception(Exception::DeviceNotAvailable));
    }
    // The decoder has seen the instruction at address 0, so that RIP-relative operands are off by RIP.
    let from_rip = if instruction.is_ip_rel_memory_operand() { regs.rip } else { 0 };
    let register = |register, _, _| Some(register_value(register, regs, sregs));
    let start = instruction.virtual_address(0, 0, register).ok_or(GENERAL_PROTECTION)?.wrapping_add(from_rip);
    if start % 64 != 0 {
        return Err(GENERAL_PROTECTION);
    }
    let mut pieces = Vec::new();
    let mut done = 0;
    while done < len {
        let at = start.wrapping_add(done as u64);
        let to_page_end = usize::try_from(PAGE - at % PAGE).unwrap_or(len);
        let piece = to_page_end.min(len - done);
        let physical = page_walk::access(memory, sregs.into(), at, is_write)
            .map_err(|fault| Stop::Exception(Exception::PageFault(fault)))?;
        pieces.push((physical, piece));
        done += piece;
    }
    Ok(pieces)
}

/// A register of a memory operand in 64-bit mode: general registers, and the bases of FS and GS.
fn register_value(register: Register, regs: &kvm_regs, sregs: &kvm_sregs) -> u64 {
    match register {
        Register::RAX => regs.rax,
        Register::RCX => regs.rcx,
        Register::RDX => regs.rdx,
        Register::RBX => regs.rbx,
        Register::RSP => regs.rsp,
        Register::RBP => regs.rbp,
        Register::RSI => regs.rsi,
        Register::RDI => regs.rdi,
        Register::R8 => regs.r8,
        Register::R9 => regs.r9,
        Register::R10 => regs.r10,
        Register::R11 => regs.r11,
        Register::R12 => regs.r12,
        Register::R13 => regs.r13,
        Register::R14 => regs.r14,
        Register::R15 => regs.r15,
        Register::FS => sregs.fs.base,
        Register::GS => sregs.gs.base,
        _ => 0,
    }
}

fn read(memory: &GuestMemory, pieces: &[(u64, usize)], len: usize) -> Result<Vec<u8>, Stop> {
    let mut bytes = vec![0; len];
    let mut rest = bytes.as_mut_slice();
    for &(physical, piece) in pieces {
        let (now, later) = rest.split_at_mut_checked(piece).ok_or(GENERAL_PROTECTION)?;
        memory.read_slice(now, GuestAddress(physical)).map_err(|_| GENERAL_PROTECTION)?;
        rest = later;
    }
    Ok(bytes)
}

fn write(memory: &GuestMemory, pieces: &[(u64, usize)], bytes: &[u8]) -> Result<(), Stop> {
    let mut rest = bytes;
    for &(physical, piece) in pieces {
        let (now, later) = rest.split_at_checked(piece).ok_or(GENERAL_PROTECTION)?;
        memory.write_slice(now, GuestAddress(physical)).map_err(|_| GENERAL_PROTECTION)?;
        rest = later;
    }
    Ok(())
}

fn state_of(vcpu: &VcpuFd) -> Result<[u8; STATE_LEN], KvmError> {
    let xsave = vcpu.get_xsave().map_err(KvmError::call("read the extended state"))?;
    let mut state = [0; STATE_LEN];
    for (to, from) in state.chunks_exact_mut(4).zip(xsave.region) {
        to.copy_from_slice(&from.to_le_bytes());
    }
    Ok(state)
}

fn set_state(vcpu: &VcpuFd, state: &[u8; STATE_LEN]) -> Result<(), Stop> {
    let mut xsave = kvm_xsave::default();
    for (to, from) in xsave.region.iter_mut().zip(state.as_chunks().0) {
        *to = u32::from_le_bytes(*from);
    }
    // SAFETY: KVM reads past this structure only for state that a process has to ask the host for (AMX), which we
    // do not.
    let result = unsafe { vcpu.set_xsave(&xsave) };
    result.map_err(KvmError::call("set the extended state"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{layout::MIB, map_guest_ram};

    /// Long mode with one page table page that maps 0x7000 to 0x7000 and nothing else.
    fn guest() -> (GuestMemory, kvm_sregs) {
        let memory = map_guest_ram(MIB).unwrap();
        for (at, entry) in [(0x1000, 0x2003u64), (0x2000, 0x3003), (0x3000, 0x4003), (0x4038, 0x7003)] {
            memory.write_obj(entry, GuestAddress(at)).unwrap();
        }
        let sregs = kvm_sregs { cr0: 0x8001_0001, cr3: 0x1000, efer: 0x500, ..Default::default() };
        (memory, sregs)
    }

    fn pieces(regs: &kvm_regs, len: usize) -> Result<Vec<(u64, usize)>, Exception> {
        let (memory, sregs) = guest();
        // xsave64 [rdi + rsi*2 + 0x40]
        let instruction = decode(&[0x48, 0x0f, 0xae, 0x64, 0x77, 0x40]);
        assert_eq!(instruction.code(), Code::Xsave64_mem);
        area(&memory, &instruction, regs, &sregs, len, true).map_err(|stop| match stop {
            Stop::Exception(exception) => exception,
            Stop::Failed(error) => panic!("{error}"),
        })
    }

    #[test]
    fn the_operand_is_found_through_registers_and_page_tables() {
        let regs = kvm_regs { rdi: 0x7000, rsi: 0x20, ..Default::default() };
        assert_eq!(pieces(&regs, 832).unwrap(), [(0x7080, 832)]);
    }

    #[test]
    fn an_area_that_runs_into_an_unmapped_page_faults_there() {
        let regs = kvm_regs { rdi: 0x7f00, ..Default::default() };
        let Err(Exception::PageFault(fault)) = pieces(&regs, 832) else { panic!("no fault") };
        assert_eq!((fault.address, fault.error_code), (0x8000, 0b10));
    }

    #[test]
    fn an_area_that_is_not_aligned_is_refused() {
        let regs = kvm_regs { rdi: 0x7001, ..Default::default() };
        assert_eq!(pieces(&regs, 576).unwrap_err(), Exception::GeneralProtection);
    }

    #[test]
    fn the_mask_is_made_of_both_halves() {
        let regs = kvm_regs { rax: 0xffff_ffff_0000_00e7, rdx: 1, ..Default::default() };
        assert_eq!(requested(&regs), 0x1_0000_00e7);
    }
}
