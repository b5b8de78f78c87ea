//! The lists as documentation, and what makes them sound.

use std::collections::BTreeMap;
use std::fmt::Write;

use expect_test::expect_file;

use super::allowed::{Allowed, Only};
use super::{ThreadKind, compile, lists};

fn name(call: i64) -> &'static str {
    usize::try_from(call).ok().and_then(syscalls::Sysno::new).map_or("?", |call| call.name())
}

fn arguments(only: Only) -> String {
    match only {
        Only::Any => String::new(),
        Only::NotExecutable => "not executable".to_owned(),
        Only::Ourselves => "own process".to_owned(),
        Only::OneOf(argument, values) => {
            let values: Vec<_> = values.iter().map(|value| format!("{value:#x}")).collect();
            format!("argument {argument} of {}", values.join(", "))
        }
    }
}

fn render() -> String {
    let mut text = "# The system calls of a jailed VMM\n\nWritten by a test from `vmm/src/seccomp/lists.rs` (`UPDATE_EXPECT=1 cargo test -p vmm seccomp`). Each thread\nhas those of its kind and those of every thread; any other call ends the VMM ([jail.md](jail.md)).\n"
        .to_owned();
    let mut table = |title: &str, list: &[Allowed]| {
        write!(text, "\n## {title}\n\n| call | with | for |\n|---|---|---|\n").unwrap();
        for allowed in list {
            writeln!(text, "| {} | {} | {} |", name(allowed.call), arguments(allowed.only), allowed.why)
                .unwrap();
        }
    };
    table("Every thread", lists::EVERY_THREAD);
    for (title, list) in [
        ("Main thread", lists::MAIN),
        ("Main thread with a control socket, besides", lists::API),
        ("Main thread with a control socket and a root for files, besides", lists::FILES),
        ("Device thread, `vmm`", lists::DEVICES),
        ("vCPU threads, `vcpu0` and so on", lists::VCPU),
        ("Debugger's thread, `gdb`, where there is one", lists::DEBUGGER),
    ] {
        table(title, list);
    }
    text
}

#[test]
fn the_documentation_lists_what_the_filters_allow() {
    expect_file!["../../../docs/jail-system-calls.md"].assert_eq(&render());
}

/// A call without conditions in one line and with some in another would be taken as one with.
#[test]
fn no_line_takes_back_what_another_allows() {
    for kind in ThreadKind::ALL {
        let mut free: BTreeMap<i64, bool> = BTreeMap::new();
        for allowed in lists::of(kind) {
            let is_free = matches!(allowed.only, Only::Any);
            let before = free.insert(allowed.call, is_free);
            assert!(before.is_none_or(|before| !before && !is_free), "{kind:?}: {}", name(allowed.call));
        }
    }
}

#[test]
fn what_gives_power_is_in_no_list() {
    let powerful = [
        libc::SYS_open,
        libc::SYS_openat,
        libc::SYS_openat2,
        libc::SYS_creat,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_ptrace,
        libc::SYS_process_vm_writev,
        libc::SYS_mount,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_setuid,
        libc::SYS_capset,
        libc::SYS_kill,
        libc::SYS_bpf,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_register,
        libc::SYS_memfd_create,
        libc::SYS_userfaultfd,
        libc::SYS_bind,
        libc::SYS_keyctl,
    ];
    for kind in ThreadKind::ALL {
        let may_open = |call| {
            let for_files = [libc::SYS_openat, libc::SYS_io_uring_setup, libc::SYS_io_uring_register];
            kind == ThreadKind::ApiWithFiles && for_files.contains(&call)
        };
        for call in powerful.into_iter().filter(|call| !may_open(*call)) {
            assert!(lists::of(kind).iter().all(|allowed| allowed.call != call), "{kind:?}: {}", name(call));
        }
    }
}

#[test]
fn every_list_makes_a_program_that_the_kernel_takes() {
    for kind in ThreadKind::ALL {
        let program = compile::compile(&lists::of(kind)).unwrap();
        assert!((50..4096).contains(&program.len()), "{kind:?}: {}", program.len());
    }
}
