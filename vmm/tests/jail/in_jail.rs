//! Attempts in a jail without filters: the other walls hold by themselves.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, LinkNameSpaceType, move_into_link_name_space};
use vmm::JailConfig;
use vmm::jail::{self, Jail};

use super::again;

/// A name, what is tried, and how the host answers.
type Attempt = (&'static str, fn() -> io::Result<()>, Errno);

const ATTEMPTS: &[Attempt] = &[
    ("read a file of the host", || File::open("/etc/passwd").map(drop), Errno::NOENT),
    ("go up", || File::open("../../../etc/passwd").map(drop), Errno::NOENT),
    ("read /proc", || File::open("/proc/self/status").map(drop), Errno::NOENT),
    ("open KVM again", || File::open("/dev/kvm").map(drop), Errno::NOENT),
    ("write a file", || File::create("/new").map(drop), Errno::ROFS),
    ("make a directory", || fs::create_dir("/new"), Errno::ROFS),
    ("execute a program", || Err(Command::new("/bin/sh").exec()), Errno::NOENT),
    ("mount", || Ok(mount("none", "/", "tmpfs", MountFlags::empty(), None)?), Errno::PERM),
    ("unmount", || Ok(unmount("/", UnmountFlags::DETACH)?), Errno::PERM),
    ("change the root", || Ok(rustix::process::chroot("/")?), Errno::PERM),
    ("become root", become_root, Errno::PERM),
    ("regain a capability", regain_capability, Errno::PERM),
    ("raise a limit", raise_limit, Errno::PERM),
    ("name the host", || Ok(rustix::system::sethostname(b"mine")?), Errno::PERM),
    ("signal a process of the host", || signal(host_pid()), Errno::SRCH),
    ("signal everybody", || Ok(kill_everybody()?), Errno::SRCH),
    ("connect to the host's network", || TcpStream::connect("127.0.0.1:9").map(drop), Errno::NETUNREACH),
    ("connect to an abstract socket of the host", connect_abstract, Errno::CONNREFUSED),
    ("join a namespace of the host", join_namespace, Errno::PERM),
];

/// The name of an abstract socket at which the parent of an attempt listens.
const ABSTRACT: &str = "carve-test-jail";

fn become_root() -> io::Result<()> {
    let root = rustix::process::Uid::ROOT;
    Ok(rustix::thread::set_thread_res_uid(root, root, root)?)
}

fn regain_capability() -> io::Result<()> {
    let all = CapabilitySet::SYS_ADMIN;
    let sets = CapabilitySets { effective: all, permitted: all, inheritable: all };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

fn raise_limit() -> io::Result<()> {
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(10_000), maximum: Some(10_000) })?)
}

/// A process that is there on any host and, by this number, in no jail.
fn host_pid() -> Pid {
    Pid::from_raw(2).unwrap()
}

fn signal(pid: Pid) -> io::Result<()> {
    Ok(kill_process(pid, Signal::TERM)?)
}

fn kill_everybody() -> Result<(), Errno> {
    rustix::process::kill_process_group(Pid::from_raw(0x3fff_ffff).unwrap(), Signal::TERM)
}

fn connect_abstract() -> io::Result<()> {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(ABSTRACT)?).map(drop)
}

/// Standard input is the host's network namespace.
fn join_namespace() -> io::Result<()> {
    Ok(move_into_link_name_space(rustix::stdio::stdin(), Some(LinkNameSpaceType::Network))?)
}

/// Tries `name` in a jail and prints the error's number.
pub(super) fn attempt(name: &str) {
    match name {
        "census" => census(),
        "thread" => second_thread(),
        "sockets" => sockets(),
        "root" => rooted(),
        _ => {
            let (_, attempt, _) = ATTEMPTS.iter().find(|(this, ..)| *this == name).unwrap();
            enter(None);
            let outcome = attempt();
            println!("{}", outcome.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |()| 0));
        }
    }
}

fn enter(sockets: Option<&Path>) {
    Jail::prepare(JailConfig::for_machine(7)).unwrap().enter(sockets).unwrap();
}

/// What `name` printed, in a PID namespace as a VMM has one.
fn output_of(name: &str) -> String {
    output_in(Path::new("/"), name)
}

/// The same, started in `directory`.
fn output_in(directory: &Path, name: &str) -> String {
    let mut command = again(&["in-jail", name]);
    command.current_dir(directory);
    command.stdin(File::open("/proc/self/ns/net").unwrap()).stdout(Stdio::piped());
    let output = jail::execute(&mut command).unwrap().wait_with_output().unwrap();
    assert!(output.status.success(), "{name}: {:?}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

pub(super) fn each_attempt_fails_as_it_should() {
    let _listens = UnixListener::bind_addr(&SocketAddr::from_abstract_name(ABSTRACT).unwrap()).unwrap();
    connect_abstract().expect("outside of the jail it can be reached");
    for (name, _, expected) in ATTEMPTS {
        assert_eq!(output_of(name).trim(), expected.raw_os_error().to_string(), "{name}");
    }
}

fn census() {
    // Opened before, as a VMM opens what it needs.
    let status = CString::new("/proc/self/status").unwrap();
    let mut status =
        File::from(rustix::fs::open(&status, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap());
    enter(None);
    print!("{}", io::read_to_string(&mut status).unwrap());
    println!("pid {}", std::process::id());
    println!("files {}", fs::read_dir("/").unwrap().count());
    println!("host {:?}", rustix::system::uname().nodename());
}

pub(super) fn there_is_nobody_and_nothing() {
    let output = output_of("census");
    let uid = 0x7000_0007u32;
    let ids = [uid; 4].map(|id| id.to_string()).join("\t");
    let none = "0000000000000000";
    for line in [
        format!("Uid:\t{ids}"),
        format!("Gid:\t{ids}"),
        "Groups:\t ".to_owned(),
        format!("CapInh:\t{none}"),
        format!("CapPrm:\t{none}"),
        format!("CapEff:\t{none}"),
        format!("CapBnd:\t{none}"),
        format!("CapAmb:\t{none}"),
        "NoNewPrivs:\t1".to_owned(),
        "pid 1".to_owned(),
        "files 0".to_owned(),
        "host \"vm\"".to_owned(),
    ] {
        assert!(output.lines().any(|have| have == line), "no {line:?} in {output}");
    }
}

fn second_thread() {
    let jail = Jail::prepare(JailConfig::for_machine(7)).unwrap();
    let (stays, ends) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::Builder::new().name("stowaway".into()).spawn(move || ends.recv()).unwrap();
    println!("{}", jail.enter(None).unwrap_err());
    drop(stays);
    assert!(thread.join().unwrap().is_err(), "nothing was sent");
}

pub(super) fn a_second_thread_is_refused() {
    let output = output_of("thread");
    assert!(output.contains("stowaway") && output.contains("--no-jail"), "{output}");
}

fn sockets() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "there").unwrap();
    let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
    std::os::unix::fs::chown(directory.path(), Some(0x7000_0007), None).unwrap();
    std::os::unix::fs::chown(directory.path().join("socket"), Some(0x7000_0007), None).unwrap();
    enter(Some(directory.path()));
    println!("{}", fs::read_to_string("/vsock/file").unwrap());
    UnixStream::connect("socket").expect("a socket in the current directory");
    listener.accept().unwrap();
    println!("{:?}", fs::remove_file("file").unwrap_err().kind());
    println!("{:?}", fs::read_dir("/").unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>());
    // It is in the host's file system and cannot be removed from here; the parent of a VMM does that.
    std::mem::forget(directory);
}

pub(super) fn only_the_sockets_are_there() {
    assert_eq!(output_of("sockets"), "there\nReadOnlyFilesystem\n[\"vsock\"]\n");
}

/// The current directory becomes the root.
fn rooted() {
    let here = std::env::current_dir().unwrap();
    Jail::prepare(JailConfig::for_machine(7).with_root(&here).unwrap()).unwrap().enter(None).unwrap();
    println!("{}", fs::read_to_string("/file").unwrap());
    fs::write("new", "mine").unwrap();
    for error in [
        File::open("/etc/passwd").unwrap_err(),
        File::open("../../../etc/passwd").unwrap_err(),
        File::open("link").unwrap_err(),
        File::open("null").unwrap_err(),
        Command::new("/true").exec(),
        rustix::fs::mknodat(
            rustix::fs::CWD,
            "kvm",
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::RUSR,
            rustix::fs::makedev(10, 232),
        )
        .unwrap_err()
        .into(),
    ] {
        println!("{}", error.raw_os_error().unwrap_or_default());
    }
}

pub(super) fn files_of_the_root_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("file"), "there").unwrap();
    fs::copy("/bin/true", path("true")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", path("link")).unwrap();
    let null = rustix::fs::makedev(1, 3);
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, path("null"), rustix::fs::FileType::CharacterDevice, mode, null)
        .unwrap();
    for path in [directory.path().to_owned(), path("null"), path("true")] {
        std::os::unix::fs::chown(path, Some(0x7000_0007), Some(0x7000_0007)).unwrap();
    }
    let errors = [Errno::NOENT, Errno::NOENT, Errno::NOENT, Errno::ACCESS, Errno::ACCESS, Errno::PERM];
    let expected: String = errors.map(|error| format!("{}\n", error.raw_os_error())).concat();
    assert_eq!(output_in(directory.path(), "root"), format!("there\n{expected}"));
    assert_eq!(fs::read_to_string(path("new")).unwrap(), "mine");
}
