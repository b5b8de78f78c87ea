//! An OCI runtime: turns a bundle (a root filesystem and a `config.json`) into a process.
//!
//! The way through the crate is the way of a container: [`bundle`] reads `config.json` and refuses what is not
//! honoured yet; [`plan`](crate::plan) turns it into ready-to-use values; [`create`](crate::create()) makes the
//! cgroup and clones the init process; [`init`](crate::init) is what that process does, one file a step; and
//! [`Container`] is the handle that starts, signals, waits for and deletes it. [`runtime`] keeps containers by name,
//! for commands that come and go: it is what `carve oci` does.
//!
//! It knows no images and no virtual machines. [`cgroup`] is public by itself: the engine puts a VM's process
//! into the same tree with the same limits. So is [`netlink`], by which the engine makes its networks.

#[doc(hidden)]
pub mod benchmarked;
mod bundle;
pub mod cgroup;
mod channel;
mod child;
mod console;
mod container;
mod create;
mod exec;
mod hooks;
mod idmap;
mod init;
mod join;
mod listener;
mod map_ids;
mod net_devices;
pub mod netlink;
mod plan;
pub mod runtime;
pub mod seccomp;
pub mod spec;
mod step;
mod sys;

pub use bundle::{Bundle, BundleError};
pub use console::ConsoleError;
pub use container::{Container, DeleteError, ExitStatus, StartError};
pub use create::{CreateError, CreateOptions, create};
pub use exec::ExecError;
pub use hooks::HookError;
pub use listener::ListenerError;
pub use map_ids::MapError;
pub use oci_spec::runtime as oci;
pub use plan::PlanError;
pub use step::StepError;

/// The version of the OCI runtime specification that is carried out.
pub const SPEC_VERSION: &str = "1.2.0";
