//! The agent's unsafe corner: what neither std nor rustix can do for PID 1.
//!
//! [`entry`] is the program's entry point without std's start-up work, [`vsock`] connects to the host, [`spawn`]
//! starts the app without copying the agent's memory, [`signals`] turns SIGCHLD into a readable descriptor, [`mark`]
//! tells the VMM how far the boot has come, [`random`] has the kernel's generator take a new key, and [`inherited`] adopts a descriptor that a test hands over.

#[cfg(not(test))]
mod entry;
pub(crate) mod inherited;
pub(crate) mod mark;
pub(crate) mod random;
pub(crate) mod signals;
pub(crate) mod spawn;
pub(crate) mod vsock;
