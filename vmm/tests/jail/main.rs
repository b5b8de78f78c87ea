//! What a VMM that was taken over tries in its jail, and that it gets nowhere.
//!
//! A jail is entered by a process with one thread, so these cases bring a main of their own instead of libtest's threads.
//! The program executes itself: `in-jail NAME` tries one thing in a jail, `filtered NAME` one thing under a filter, and
//! `vm-process` is a VMM. They print what libtest would print, and skip, with the reason, where the host gives too little.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "these are tests, though clippy sees no #[test]"
)]

#[path = "../tiny/elf.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod elf;

mod filtered;
mod in_jail;
mod vmm_process;

use std::process::ExitCode;

/// A test: its name and what it does, which is a panic or not.
type Case = (&'static str, fn());

const CASES: &[Case] = &[
    ("in_a_jail_each_attempt_fails_as_it_should", in_jail::each_attempt_fails_as_it_should),
    ("in_a_jail_there_is_nobody_and_nothing", in_jail::there_is_nobody_and_nothing),
    ("a_jail_with_a_second_thread_is_refused", in_jail::a_second_thread_is_refused),
    ("a_jail_has_the_directory_of_sockets_and_no_other", in_jail::only_the_sockets_are_there),
    ("a_jail_with_a_root_has_its_files_and_nothing_that_runs", in_jail::files_of_the_root_only),
    ("each_forbidden_call_ends_the_process", filtered::each_forbidden_call_ends_the_process),
    ("what_is_allowed_goes_on", filtered::what_is_allowed_goes_on),
    ("a_forbidden_call_of_a_vmm_is_named", vmm_process::a_forbidden_call_of_a_vcpu_is_named),
    ("a_vmm_runs_a_guest_to_its_end", vmm_process::runs_a_guest_to_its_end),
    ("a_vmm_serves_clients_and_goes_on_from_its_snapshot", vmm_process::serves_clients_and_is_restored),
    ("a_vmm_ends_with_its_parent", vmm_process::a_vmm_ends_with_its_parent),
    ("a_vmm_gives_code_back", vmm_process::a_vmm_gives_code_back),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["in-jail", name] => in_jail::attempt(name),
        ["filtered", kind, name] => filtered::attempt(kind, name),
        [vmm::process::VERB] => return vmm_process::be_a_vmm(),
        ["parent"] => vmm_process::be_a_parent(),
        _ => run(&args),
    }
    ExitCode::SUCCESS
}

/// Runs the cases whose name contains one of `wanted`, as libtest would.
fn run(wanted: &[String]) {
    let wanted: Vec<_> = wanted.iter().filter(|word| !word.starts_with('-')).collect();
    let cases = CASES
        .iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str())));
    if !rustix::process::geteuid().is_root() {
        println!("skipped: the cases of the jail need root");
        return;
    }
    let has_kvm = std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    for (name, case) in cases {
        if !has_kvm && name.contains("vm") {
            println!("skipped {name}: no usable /dev/kvm");
            continue;
        }
        case();
        println!("test {name} ... ok");
    }
}

/// Executes this program again with `args`.
fn again(args: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new("/proc/self/exe");
    command.args(args);
    command
}
