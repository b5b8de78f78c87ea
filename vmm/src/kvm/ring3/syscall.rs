//! The state that SYSCALL leaves (AMD APM volume 3, "SYSCALL"), made of what a KVM without hardware assistance leaves
//! of it.
//!
//! There, ring 3 goes on at LSTAR with RCX, R11 and RFLAGS as after SYSCALL, and faults. Either that page fault has
//! been delivered, or a kick came first.

use kvm_bindings::{kvm_regs, kvm_sregs};

use super::super::event_frame::Frame;
use super::super::syscall_msrs::SyscallMsrs;
use crate::cpu::registers::{self, RFLAGS_RESERVED, TYPE_CODE, TYPE_DATA};

const RFLAGS_RF: u64 = 1 << 16;

/// Whether ring 3 is about to fault at LSTAR after a SYSCALL. A program that jumped there has its flags unmasked, and
/// no kernel leaves the interrupt flag out of the mask.
pub(super) fn is_under_way(msrs: &SyscallMsrs, regs: &kvm_regs, sregs: &kvm_sregs) -> bool {
    sregs.cs.selector & 3 == 3 && regs.rip == msrs.lstar && has_masked_flags(msrs, regs, regs.rflags)
}

/// Whether the page fault with this frame is all there is to see of a SYSCALL.
pub(super) fn caused(msrs: &SyscallMsrs, regs: &kvm_regs, frame: &Frame) -> bool {
    msrs.explain(frame) && has_masked_flags(msrs, regs, frame.rflags)
}

fn has_masked_flags(msrs: &SyscallMsrs, regs: &kvm_regs, rflags: u64) -> bool {
    rflags & !RFLAGS_RF == masked_flags(msrs, regs)
}

fn masked_flags(msrs: &SyscallMsrs, regs: &kvm_regs) -> u64 {
    (regs.r11 & !msrs.fmask & !RFLAGS_RF) | RFLAGS_RESERVED
}

/// Completes it; `rsp` is the program's.
pub(super) fn complete(msrs: &SyscallMsrs, regs: &mut kvm_regs, sregs: &mut kvm_sregs, rsp: u64) {
    regs.rip = msrs.lstar;
    regs.rsp = rsp;
    regs.rflags = masked_flags(msrs, regs);
    let [.., a, b, _, _] = msrs.star.to_le_bytes();
    let selector = u16::from_le_bytes([a, b]) & !3;
    sregs.cs = registers::flat_segment(selector, TYPE_CODE, true);
    sregs.ss = registers::flat_segment(selector.wrapping_add(8), TYPE_DATA, false);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX: SyscallMsrs =
        SyscallMsrs { star: 0x0023_0010_0000_0000, lstar: 0xffff_ffff_8180_0000, fmask: 0x25_7fd5 };

    fn after_syscall() -> (kvm_regs, kvm_sregs) {
        let regs = kvm_regs { rip: LINUX.lstar, rsp: 7, r11: 0x246, rflags: 2, ..Default::default() };
        let mut sregs = kvm_sregs::default();
        sregs.cs.selector = 0x33;
        (regs, sregs)
    }

    #[test]
    fn a_program_that_jumps_to_the_entry_point_is_told_from_a_system_call() {
        let (regs, sregs) = after_syscall();
        assert!(is_under_way(&LINUX, &regs, &sregs));
        assert!(!is_under_way(&LINUX, &kvm_regs { rflags: 0x202, ..regs }, &sregs));
        let frame = Frame { error: 0x15, rip: LINUX.lstar, cs: 0x33, rflags: 0x1_0002, rsp: 7 };
        assert!(caused(&LINUX, &regs, &frame));
        assert!(!caused(&LINUX, &regs, &Frame { rflags: 0x1_0202, ..frame }));
    }

    #[test]
    fn the_kernel_starts_at_lstar_in_its_own_segments_on_the_programs_stack() {
        let (mut regs, mut sregs) = after_syscall();
        complete(&LINUX, &mut regs, &mut sregs, 0x7ffd_0000_1000);
        assert_eq!((regs.rip, regs.rsp, regs.rflags), (LINUX.lstar, 0x7ffd_0000_1000, 2));
        assert_eq!((sregs.cs.selector, sregs.cs.l, sregs.cs.dpl), (0x10, 1, 0));
        assert_eq!((sregs.ss.selector, sregs.ss.dpl), (0x18, 0));
    }
}
