//! A VMM: turns a VmConfig into a running virtual machine.
