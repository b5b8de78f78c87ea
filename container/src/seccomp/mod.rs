//! System call filters: the default profile, and the compiler from an OCI `linux.seccomp` to BPF.
//!
//! `profile.rs` lists what containers may call; `architecture.rs` and `names.rs` turn names into numbers; `compile.rs` decides
//! what happens to each number; `bpf.rs` writes the program. Unlike libseccomp's, the program is a binary search
//! over ranges of numbers, and rules for one call are tried in the order they are listed.

mod architecture;
mod bpf;
mod compile;
mod names;
mod profile;

use std::path::PathBuf;

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
    /// Who is asked about calls, if the filter asks at all.
    pub(crate) listener: Option<Listener>,
}

/// The agent that answers for calls whose action is `SCMP_ACT_NOTIFY`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    /// The Unix socket where it waits.
    pub(crate) path: PathBuf,
    /// What it is told, besides the container's state.
    pub(crate) metadata: String,
}

impl Filter {
    /// Compiles an OCI profile.
    ///
    /// # Errors
    /// When it makes no sense, or becomes longer than the kernel takes.
    pub(crate) fn compile(profile: &LinuxSeccomp) -> Result<Self, SeccompError> {
        compile::compile(profile)
    }
}
