//! The few old PC devices that a kernel still wants: a serial port, a keyboard controller for reset, and a port by
//! which the guest marks how far it has come.

pub(crate) mod boot_timer;
pub(crate) mod console_input;
pub(crate) mod i8042;
pub(crate) mod serial;
pub(crate) mod terminal;
