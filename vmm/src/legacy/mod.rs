//! The few old PC devices that a kernel still wants: a serial port, a keyboard controller for reset, a register to power
//! off, the generation id, and a port by which the guest marks how far it has come.

pub(crate) mod boot_timer;
pub(crate) mod console_input;
pub(crate) mod generation_id;
pub(crate) mod i8042;
pub(crate) mod power;
pub(crate) mod serial;
