//! A debugger for the guest: a stub that speaks gdb's remote protocol on a Unix socket.
//!
//! ```text
//!   gdb ◄──socket──► "gdb" thread: server ─ session ─ target ──► VcpuControl ──► vCPU threads: DebugCpu
//!                                                       │                             │
//!                                                       └──► guest memory             └──► Traps
//! ```
//!
//! The `server` waits for debuggers, one after the other, a `session` is one of them, `target` is the machine as the crate
//! `gdbstub` wants it. Each vCPU is a thread to the debugger. The rest of the VMM knows of it: `cpu::debug` (what an engine
//! does for it), `machine::control` (who keeps vCPUs from running), and the options that bring the socket here.

mod arch;
mod breakpoints;
mod client;
#[cfg(test)]
mod fake;
mod guest;
mod registers;
mod server;
mod session;
mod target;
#[cfg(test)]
mod tests;

pub(crate) use guest::Guest;
pub(crate) use server::{Debugger, Place};
