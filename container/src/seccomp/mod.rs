//! System call filters: the default profile, and the compiler from an OCI `linux.seccomp` to BPF.
//!
//! `profile.rs` lists what containers may call; `architecture.rs` turns names into numbers; `compile.rs` decides
//! what happens to each number; `bpf.rs` writes the program. Unlike libseccomp's, the program is a binary search
//! over ranges of numbers, and rules for one call are tried in the order they are listed.

mod architecture;
mod bpf;
mod compile;
mod profile;

use oci_spec::runtime::LinuxSeccomp;

pub use compile::SeccompError;
pub use profile::default_profile;

use crate::sys::BpfInstruction;

/// A compiled filter, ready to be installed.
#[derive(Debug)]
pub(crate) struct Filter {
    /// The BPF program.
    pub(crate) program: Vec<BpfInstruction>,
    /// `SECCOMP_FILTER_FLAG_…` bits.
    pub(crate) flags: u64,
}

impl Filter {
    /// Compiles an OCI profile.
    ///
    /// # Errors
    /// When it uses an action, flag or architecture that is not supported, or becomes longer than the kernel takes.
    pub(crate) fn compile(profile: &LinuxSeccomp) -> Result<Self, SeccompError> {
        compile::compile(profile)
    }
}
