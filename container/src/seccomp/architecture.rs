//! The instruction sets whose system calls a process on this machine can make, and the names of those calls.

use oci_spec::runtime::Arch;

use super::names::{Names, names};

/// An instruction set as the filter sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Architecture {
    /// `AUDIT_ARCH_…`, linux/audit.h.
    pub(super) audit: u32,
    /// Numbers with this bit set belong to another ABI that shares `audit` (x32). 0: there is none.
    pub(super) foreign_bit: u32,
    names: Names,
}

/// The instruction set this program is built for.
#[cfg(target_arch = "x86_64")]
pub(super) const NATIVE: Architecture =
    Architecture { audit: 0xc000_003e, foreign_bit: 0x4000_0000, names: names!(syscalls::Sysno) };
/// The instruction set this program is built for.
#[cfg(target_arch = "aarch64")]
pub(super) const NATIVE: Architecture =
    Architecture { audit: 0xc000_00b7, foreign_bit: 0, names: names!(syscalls::Sysno) };

/// 32-bit programs on x86-64.
#[cfg(target_arch = "x86_64")]
const I386: Architecture =
    Architecture { audit: 0x4000_0003, foreign_bit: 0, names: names!(syscalls::x86::Sysno) };

/// The instruction sets to filter besides the native one. Those that this machine cannot run, and x32, are left
/// out: their calls do not exist (ENOSYS).
pub(super) fn secondary(profile: &[Arch]) -> Vec<Architecture> {
    #[cfg(target_arch = "x86_64")]
    if profile.contains(&Arch::ScmpArchX86) {
        return vec![I386];
    }
    let _ = profile;
    Vec::new()
}

impl Architecture {
    /// The number of a system call by its name, if it has one of this name.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.names.number(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_kernels_numbers() {
        assert_eq!(NATIVE.number("clone3"), Some(435));
        assert_eq!(NATIVE.number("execve").map(i64::from), Some(libc::SYS_execve));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn i386_is_filtered_when_the_profile_lists_it() {
        let listed = secondary(&[Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]);
        assert_eq!(listed.iter().map(|a| a.audit).collect::<Vec<_>>(), [I386.audit]);
        assert_eq!(I386.number("socketcall"), Some(102));
        assert!(secondary(&[Arch::ScmpArchX86_64]).is_empty());
    }
}
