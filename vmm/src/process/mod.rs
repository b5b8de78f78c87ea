//! A virtual machine in a process of its own.
//!
//! Whoever wants a machine (the engine's monitor, `carve vm boot`, `restore` and `serve`) keeps its rights and its secrets;
//! the VMM, which the guest attacks first, is a fresh execution of the same binary that has neither.
//!
//! ```text
//!   parent                                    child (`carve vm-process`)
//!   VmProcess::spawn ── execute ────────────► main: channel on descriptor 0
//!      adopt(pid): into its cgroup
//!      ── machine, descriptors ─────────────► build: Vm::build or restore, or the control socket
//!      ◄───────────── events, `running` ───── start
//!      ── stop ─────────────────────────────► request_stop
//!      ◄───────────────────────────── end ─── exit
//! ```
//!
//! `channel` carries messages and descriptors, `message` says which, `spawn` and `handle` are the parent's half, `main`
//! and `build` are the child's.

mod build;
mod channel;
mod descriptors;
mod handle;
mod main;
mod message;
mod paths;
mod spawn;

pub use handle::{ProcessError, VmProcess};
pub use main::main;
pub use spawn::{Control, Described, ProcessOptions};

/// The hidden verb of the binary that runs [`main()`].
pub const VERB: &str = "vm-process";
