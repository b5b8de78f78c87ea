//! The steps of a start that only compute, one by one: what the benchmarks in `container/benches` call. No interface for
//! anything else.

use std::path::PathBuf;

use oci_spec::runtime::LinuxSeccomp;
use rustix::io::Errno;

use crate::bundle::{Bundle, BundleError};
use crate::plan::{Plan, PlanError};
use crate::seccomp::{Filter, SeccompError};
use crate::sys;

/// A compiled seccomp profile.
#[derive(Debug)]
pub struct Compiled(Filter);

/// From the bytes of a `config.json` to a bundle.
///
/// # Errors
/// As [`Bundle::load`].
pub fn parse_config(json: Vec<u8>) -> Result<Bundle, BundleError> {
    Bundle::parse(PathBuf::from("/bundle"), json)
}

/// From a bundle to all that init does, its compiled filter included; returns the number of mounts.
///
/// # Errors
/// A configuration that cannot be carried out.
pub fn plan(bundle: &Bundle) -> Result<usize, PlanError> {
    Plan::new(bundle, "benchmark").map(|plan| plan.mounts.len())
}

/// From a profile to a BPF program.
///
/// # Errors
/// A profile that cannot be compiled.
pub fn compile_filter(profile: &LinuxSeccomp) -> Result<Compiled, SeccompError> {
    Filter::compile(profile).map(Compiled)
}

/// From a BPF program to the executable that loads it.
///
/// # Errors
/// EINVAL for a program that is too long.
pub fn last_exec_image(Compiled(filter): &Compiled) -> Result<Vec<u8>, Errno> {
    sys::last_exec_image(3, Some((&filter.program, filter.flags)))
}
