//! The registers that say what SYSCALL does (AMD APM volume 3, "SYSCALL"), and how to tell a page fault that a KVM
//! without hardware assistance makes of it.

use super::event_frame::Frame;

/// STAR, LSTAR and the flag mask; CSTAR lies between the last two.
pub(super) const MSRS: [u32; 3] = [0xc000_0081, 0xc000_0082, 0xc000_0084];

/// Page-fault error code: from user mode, fetching an instruction.
const ERROR_USER: u64 = 1 << 2;
const ERROR_FETCH: u64 = 1 << 4;

/// Their values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SyscallMsrs {
    /// Segments: bits 47:32 are the kernel's CS, and SS is the next descriptor.
    pub(crate) star: u64,
    /// The entry point.
    pub(crate) lstar: u64,
    /// Flags to clear on entry.
    pub(crate) fmask: u64,
}

impl SyscallMsrs {
    /// Whether the page fault with this frame is ring 3 fetching the system call entry point: then it was a SYSCALL.
    /// (A program could also jump there; to it, that is a system call too, with the return address it chose to have
    /// in RCX.)
    pub(super) fn explain(&self, frame: &Frame) -> bool {
        let fetch = ERROR_USER | ERROR_FETCH;
        frame.rip == self.lstar && frame.cs & 3 == 3 && frame.error & fetch == fetch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_fetch_of_the_entry_point_is_a_system_call() {
        let linux =
            SyscallMsrs { star: 0x0023_0010_0000_0000, lstar: 0xffff_ffff_8180_0000, fmask: 0x25_7fd5 };
        let explain = |error, rip, cs| linux.explain(&Frame { error, rip, cs, rflags: 0x246, rsp: 0 });
        assert!(explain(0x15, linux.lstar, 0x33));
        assert!(explain(0x14, linux.lstar, 0x33), "with page-table isolation it is not present");
        assert!(!explain(0x15, linux.lstar + 1, 0x33));
        assert!(!explain(0x10, linux.lstar, 0x10));
        assert!(!explain(0x04, linux.lstar, 0x33));
    }
}
