//! An OCI runtime: turns a bundle into a process.
