//! What std and rustix do not do for a program: the unsafe corner of the checks.
//!
//! [`process`] makes processes and waits for them, [`signals`] receives signals, [`mapping`] is memory with a
//! protection, [`machine_code`] is memory that is called, [`vector`] fills and reads vector registers, [`trace`] steps
//! through another process, [`compat`] runs 32-bit code, [`vsock`] connects with the host.

#![expect(unsafe_code, reason = "it does on purpose what safe code keeps programs from doing")]

pub(crate) mod compat;
pub(crate) mod machine_code;
pub(crate) mod mapping;
pub(crate) mod process;
pub(crate) mod signals;
pub(crate) mod trace;
pub(crate) mod vector;
pub(crate) mod vsock;
