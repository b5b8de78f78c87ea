//! PID 1 inside the guest, and the messages it speaks with the engine.
//!
//! The library half is shared by both ends: [`protocol`] is what travels over vsock, [`kernel`] what the
//! agent's kernel is told, [`user`] turns an image's `User` string into numbers, [`self_test`] is what a guest under
//! examination says. The binary half (`main.rs`) is the agent itself and runs only in a guest.

pub mod kernel;
pub mod protocol;
pub mod self_test;
pub mod user;
