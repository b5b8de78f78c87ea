//! SYSCALL from ring 3. This KVM sets RCX, R11 and RIP but stays in ring 3, so that the guest faults on its own entry
//! point. The fault is recognised at the guest's page-fault handler and turned into what SYSCALL does (AMD APM
//! volume 3, "SYSCALL"). Pure but for [`watch_syscall_msrs`].

use kvm_bindings::{KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER, kvm_enable_cap, kvm_regs};
use kvm_ioctls::{MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VmFd};

use super::super::KvmError;

/// STAR, LSTAR and the flag mask; CSTAR lies between the last two.
pub(super) const MSRS: [u32; 3] = [0xc000_0081, 0xc000_0082, 0xc000_0084];

/// Bit 1 of RFLAGS is always set; SYSCALL clears RF.
const RFLAGS_RESERVED: u64 = 1 << 1;
const RFLAGS_RF: u64 = 1 << 16;

/// Makes writes of the system call MSRs leave the guest.
///
/// # Errors
/// KVM cannot do that.
pub(super) fn watch_syscall_msrs(vm: &VmFd) -> Result<(), KvmError> {
    let mut capability = kvm_enable_cap { cap: KVM_CAP_X86_USER_SPACE_MSR, ..Default::default() };
    capability.args[0] = KVM_MSR_EXIT_REASON_FILTER.into();
    vm.enable_cap(&capability).map_err(KvmError::call("report MSR writes"))?;
    // A clear bit denies, that is reports: bits 0, 1 and 3 are the three registers, bit 2 is CSTAR.
    let range =
        MsrFilterRange { flags: MsrFilterRangeFlags::WRITE, base: MSRS[0], msr_count: 4, bitmap: &[0b0100] };
    vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &[range]).map_err(KvmError::call("filter MSR writes"))
}

/// The registers that say what SYSCALL does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SyscallMsrs {
    /// Segments: bits 47:32 are the kernel's CS, and SS is the next descriptor.
    pub(super) star: u64,
    /// The entry point.
    pub(super) lstar: u64,
    /// Flags to clear on entry.
    pub(super) fmask: u64,
}

/// Entry 14 of the guest's interrupt table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageFaultGate {
    /// Address of the handler.
    pub(super) handler: u64,
    /// Code segment of the handler.
    selector: u16,
}

impl PageFaultGate {
    /// Length of a gate.
    pub(super) const LEN: usize = 16;
    /// Where the gate is in the table.
    pub(super) const OFFSET: u64 = 14 * 16;

    /// Reads a 64-bit gate (Intel SDM volume 3A, figure 6-8).
    pub(super) fn parse(gate: [u8; Self::LEN]) -> Self {
        let [a, b, s0, s1, _, _, c, d, e, f, g, h, ..] = gate;
        Self { handler: u64::from_le_bytes([a, b, c, d, e, f, g, h]), selector: u16::from_le_bytes([s0, s1]) }
    }
}

/// What the CPU pushes for a page fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    error: u64,
    rip: u64,
    cs: u64,
    rsp: u64,
}

/// Page-fault error code: from user mode, fetching an instruction.
const ERROR_USER: u64 = 1 << 2;
const ERROR_FETCH: u64 = 1 << 4;

impl Frame {
    /// Length of the frame: error code, RIP, CS, RFLAGS, RSP, SS.
    pub(super) const LEN: usize = 48;

    /// Reads a frame off the stack.
    pub(super) fn parse(frame: [u8; Self::LEN]) -> Self {
        let mut words = frame
            .chunks_exact(8)
            .map(|word| word.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte)));
        let mut next = || words.next().unwrap_or_default();
        let (error, rip, cs, _rflags, rsp) = (next(), next(), next(), next(), next());
        Self { error, rip, cs, rsp }
    }

    /// Whether this fault is ring 3 fetching the system call entry point: then it was a SYSCALL. (A program could
    /// also jump there; to it, that is a system call too, with the return address it chose to have in RCX.)
    pub(super) fn is_syscall(&self, msrs: &SyscallMsrs) -> bool {
        let fetch = ERROR_USER | ERROR_FETCH;
        self.rip == msrs.lstar && self.cs & 3 == 3 && self.error & fetch == fetch
    }
}

/// Turns `regs`, in the page-fault handler with `frame` on the stack, into the state after SYSCALL.
///
/// CS is right already when the handler's gate names the segment that STAR does. SS stays null, as the fault left it:
/// in 64-bit mode ring 0 runs with that, and returns to it.
///
/// # Errors
/// With a text, when the gate names another code segment than STAR.
pub(super) fn enter_kernel(
    regs: &mut kvm_regs,
    frame: &Frame,
    msrs: &SyscallMsrs,
    gate: &PageFaultGate,
) -> Result<(), String> {
    let kernel_cs = (msrs.star >> 32 & 0xfffc).to_le_bytes();
    let kernel_cs = u16::from_le_bytes([kernel_cs[0], kernel_cs[1]]);
    if kernel_cs != gate.selector {
        return Err(format!(
            "the guest's system calls want code segment {kernel_cs:#x}, its page faults {:#x}; only one for both is supported",
            gate.selector
        ));
    }
    regs.rip = msrs.lstar;
    regs.rsp = frame.rsp;
    regs.rflags = (regs.r11 & !msrs.fmask & !RFLAGS_RF) | RFLAGS_RESERVED;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX: SyscallMsrs =
        SyscallMsrs { star: 0x0023_0010_0000_0000, lstar: 0xffff_ffff_8180_0000, fmask: 0x25_7fd5 };

    fn frame(error: u64, rip: u64, cs: u64) -> Frame {
        let mut bytes = [0; Frame::LEN];
        for (slot, value) in bytes.chunks_exact_mut(8).zip([error, rip, cs, 0x246, 0x7ffd_0000_1000, 0x2b]) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        Frame::parse(bytes)
    }

    #[test]
    fn a_user_fetch_of_the_entry_point_is_a_system_call() {
        assert!(frame(0x15, LINUX.lstar, 0x33).is_syscall(&LINUX));
        assert!(
            frame(0x14, LINUX.lstar, 0x33).is_syscall(&LINUX),
            "with page-table isolation it is not present"
        );
        assert!(!frame(0x15, LINUX.lstar + 1, 0x33).is_syscall(&LINUX));
        assert!(!frame(0x10, LINUX.lstar, 0x10).is_syscall(&LINUX));
        assert!(!frame(0x04, LINUX.lstar, 0x33).is_syscall(&LINUX));
    }

    #[test]
    fn the_state_after_is_that_after_syscall() {
        let gate = PageFaultGate { handler: 1, selector: 0x10 };
        let mut regs = kvm_regs { rip: 1, rsp: 2, rcx: 0x40_0000, r11: 0x246, ..Default::default() };
        enter_kernel(&mut regs, &frame(0x15, LINUX.lstar, 0x33), &LINUX, &gate).unwrap();
        assert_eq!((regs.rip, regs.rsp, regs.rcx), (LINUX.lstar, 0x7ffd_0000_1000, 0x40_0000));
        assert_eq!(regs.rflags, 0x2, "interrupts and arithmetic flags are masked");
    }

    #[test]
    fn another_kernel_segment_is_an_error() {
        let gate = PageFaultGate { handler: 1, selector: 0x18 };
        let frame = frame(0x15, LINUX.lstar, 0x33);
        assert!(enter_kernel(&mut kvm_regs::default(), &frame, &LINUX, &gate).is_err());
    }

    #[test]
    fn a_gate_is_read_as_the_manual_says() {
        let gate = [0x10, 0x0b, 0x10, 0, 0, 0x8e, 0x80, 0x81, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        let expected = PageFaultGate { handler: 0xffff_ffff_8180_0b10, selector: 0x10 };
        assert_eq!(PageFaultGate::parse(gate), expected);
    }
}
