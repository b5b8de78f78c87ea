//! System calls under the filters, in a process that has all its rights otherwise.

use std::fs::File;
use std::io::{self, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use rustix::process::{Pid, Signal, getpid, kill_process};
use vmm::seccomp::{self, ThreadKind};

use super::again;

/// 128 + SIGSYS.
const FORBIDDEN: i32 = 159;

/// A name, and a system call or more.
type Call = (&'static str, fn() -> io::Result<()>);

/// What none of the threads may do, but that one opens files.
const CALLS: &[Call] = &[
    ("open a file", || File::open("/etc/passwd").map(drop)),
    ("execute a program", || Err(Command::new("/bin/true").exec())),
    ("start a process", || Command::new("/bin/true").spawn().map(drop)),
    ("start a thread", || std::thread::Builder::new().spawn(|| ()).map(drop)),
    ("make a socket of a network", || UdpSocket::bind("127.0.0.1:0").map(drop)),
    ("signal another process", || Ok(kill_process(Pid::from_raw(2).unwrap(), Signal::CONT)?)),
    ("signal itself as a process", || Ok(kill_process(getpid(), Signal::CONT)?)),
    ("become another user", || Ok(rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(1))?)),
    ("change directory", || Ok(rustix::process::chdir("/")?)),
    ("name the host", || Ok(rustix::system::sethostname(b"mine")?)),
    ("make a memory file", || {
        Ok(rustix::fs::memfd_create("mine", rustix::fs::MemfdFlags::CLOEXEC).map(drop)?)
    }),
    ("make a terminal's request", || Ok(rustix::termios::tcgetattr(rustix::stdio::stdin()).map(drop)?)),
];

/// Tries `name` under the filter of `kind`. Whoever comes back was not stopped.
pub(super) fn attempt(kind: &str, name: &str) {
    seccomp::report_violations().unwrap();
    let kind = ThreadKind::ALL.into_iter().find(|this| format!("{this:?}") == kind).unwrap();
    let pair = UnixDatagram::pair().unwrap();
    seccomp::install(kind).unwrap();
    if name == "work" {
        return work(kind, &pair.0, &pair.1);
    }
    let (_, call) = CALLS.iter().find(|(this, _)| *this == name).unwrap();
    let outcome = call();
    println!("not stopped: {outcome:?}");
}

/// What every kind of thread does, more or less.
fn work(kind: ThreadKind, one: &UnixDatagram, other: &UnixDatagram) {
    let large: Vec<u8> = vec![1; 10 << 20];
    let sent = one.send(&large[..100]).unwrap();
    if kind == ThreadKind::Devices {
        assert_eq!(other.recv(&mut [0; 200]).unwrap(), sent);
    }
    let lock = std::sync::Mutex::new(large);
    drop(lock.lock().unwrap().split_off(1000));
    io::stdout().write_all(b"worked\n").unwrap();
}

pub(super) fn each_forbidden_call_ends_the_process() {
    for kind in ThreadKind::ALL {
        for (name, _) in CALLS {
            if kind == ThreadKind::ApiWithFiles && *name == "open a file" {
                continue;
            }
            let output = again(&["filtered", &format!("{kind:?}"), name]).output().unwrap();
            let status = output.status;
            // The handler does not run where signals are blocked, as around the start of a process: then the signal kills.
            let stopped = status.code() == Some(FORBIDDEN) || status.signal() == Some(Signal::SYS.as_raw());
            assert!(stopped, "{kind:?}: {name}: {output:?}");
        }
    }
}

pub(super) fn what_is_allowed_goes_on() {
    for kind in ThreadKind::ALL {
        let output = again(&["filtered", &format!("{kind:?}"), "work"]).output().unwrap();
        assert!(output.status.success() && output.stdout == b"worked\n", "{kind:?}: {output:?}");
    }
}
