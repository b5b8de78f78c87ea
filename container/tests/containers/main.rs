//! Containers that are really made: namespaces, cgroups, mounts and all, with busybox inside.
//!
//! Only a single-threaded process may create a container, so these cases bring a main of their own instead of
//! libtest's threads. They run one after the other in a mount and network namespace of their own, print what libtest
//! would print, and end with a census: no process, mount or cgroup is left.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "these are tests, though clippy sees no #[test]"
)]

mod basics;
mod cgroups;
mod harness;
mod hostile;
mod isolation;
mod lifecycle;
mod mounts;
mod namespaces;
mod net_devices;
mod notify;
mod notify_agent;
mod security;

use harness::Case;

fn main() {
    let cases: Vec<Case> = [
        basics::CASES,
        isolation::CASES,
        security::CASES,
        cgroups::CASES,
        hostile::CASES,
        lifecycle::CASES,
        mounts::CASES,
        net_devices::CASES,
        notify::CASES,
        namespaces::CASES,
    ]
    .into_iter()
    .flatten()
    .copied()
    .collect();
    harness::main(&cases);
}
