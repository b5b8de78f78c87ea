//! The instruction sets whose system calls a process on this machine can make, and the names of those calls.

use std::collections::HashMap;

use oci_spec::runtime::Arch;

/// An instruction set as the filter sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Architecture {
    /// `AUDIT_ARCH_…`, linux/audit.h.
    pub(super) audit: u32,
    /// Numbers with this bit set belong to another ABI that shares `audit` (x32). 0: there is none.
    pub(super) foreign_bit: u32,
    numbers: fn() -> HashMap<&'static str, u32>,
}

/// The instruction set this program is built for.
#[cfg(target_arch = "x86_64")]
pub(super) const NATIVE: Architecture =
    Architecture { audit: 0xc000_003e, foreign_bit: 0x4000_0000, numbers: native_numbers };
/// The instruction set this program is built for.
#[cfg(target_arch = "aarch64")]
pub(super) const NATIVE: Architecture =
    Architecture { audit: 0xc000_00b7, foreign_bit: 0, numbers: native_numbers };

/// 32-bit programs on x86-64.
#[cfg(target_arch = "x86_64")]
const I386: Architecture = Architecture { audit: 0x4000_0003, foreign_bit: 0, numbers: i386_numbers };

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
    /// The number of each system call by name.
    pub(super) fn numbers(&self) -> HashMap<&'static str, u32> {
        (self.numbers)()
    }
}

fn native_numbers() -> HashMap<&'static str, u32> {
    // `iter` ends before the last one (syscalls 0.8).
    let all = syscalls::Sysno::iter().chain([syscalls::Sysno::last()]);
    all.map(|call| (call.name(), call.id().unsigned_abs())).collect()
}

#[cfg(target_arch = "x86_64")]
fn i386_numbers() -> HashMap<&'static str, u32> {
    let all = syscalls::x86::Sysno::iter().chain([syscalls::x86::Sysno::last()]);
    all.map(|call| (call.name(), call.id().unsigned_abs())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_kernels_numbers() {
        let numbers = NATIVE.numbers();
        assert_eq!(numbers["clone3"], 435);
        assert_eq!(i64::from(numbers["execve"]), libc::SYS_execve);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn i386_is_filtered_when_the_profile_lists_it() {
        let listed = secondary(&[Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]);
        assert_eq!(listed.iter().map(|a| a.audit).collect::<Vec<_>>(), [I386.audit]);
        assert_eq!(I386.numbers()["socketcall"], 102);
        assert!(secondary(&[Arch::ScmpArchX86_64]).is_empty());
    }
}
