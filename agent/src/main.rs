//! PID 1 inside the guest, and the messages it speaks with the engine.

fn main() {}
