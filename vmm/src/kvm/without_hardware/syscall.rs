//! SYSCALL from ring 3. This KVM sets RCX, R11 and RIP but stays in ring 3, so that the guest faults on its own entry
//! point. The fault is recognised at the guest's page-fault handler and turned into what SYSCALL does (AMD APM
//! volume 3, "SYSCALL"). Pure but for [`watch_syscall_msrs`].

use kvm_bindings::{KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER, kvm_enable_cap, kvm_regs};
use kvm_ioctls::{MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VmFd};

use super::super::KvmError;
use super::super::event_frame::Frame;
use super::super::gate::Gate;
use super::super::syscall_msrs::{MSRS, SyscallMsrs};

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

/// Entry of the guest's interrupt table for page faults.
pub(super) const PAGE_FAULT: u64 = 14;

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
    gate: &Gate,
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
        Frame { error, rip, cs, rflags: 0x246, rsp: 0x7ffd_0000_1000 }
    }

    #[test]
    fn the_state_after_is_that_after_syscall() {
        let gate = Gate { handler: 1, selector: 0x10, is_present: true, level: 0 };
        let mut regs = kvm_regs { rip: 1, rsp: 2, rcx: 0x40_0000, r11: 0x246, ..Default::default() };
        enter_kernel(&mut regs, &frame(0x15, LINUX.lstar, 0x33), &LINUX, &gate).unwrap();
        assert_eq!((regs.rip, regs.rsp, regs.rcx), (LINUX.lstar, 0x7ffd_0000_1000, 0x40_0000));
        assert_eq!(regs.rflags, 0x2, "interrupts and arithmetic flags are masked");
    }

    #[test]
    fn another_kernel_segment_is_an_error() {
        let gate = Gate { handler: 1, selector: 0x18, is_present: true, level: 0 };
        let frame = frame(0x15, LINUX.lstar, 0x33);
        assert!(enter_kernel(&mut kvm_regs::default(), &frame, &LINUX, &gate).is_err());
    }
}
