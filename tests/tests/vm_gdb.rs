//! `carve vm boot --gdb`: Debian's gdb drives a guest's kernel.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tests::{Engine, Guest, Host, initramfs_with, kernel, skip, wait_for};

const HELLO: &str = "/bin/busybox echo init says hello\n/bin/busybox poweroff -f";

/// A guest that waits for gdb.
struct Debugged {
    carve: Child,
    socket: PathBuf,
}

impl Debugged {
    fn start(host: &Host, engine: &str, script: &str) -> Option<Self> {
        let initrd = initramfs_with(&host.path(""), script);
        let mut carve = host.carve(&["vm", "boot", "--memory", "128", "--engine", engine, "--kernel"]);
        carve.arg(kernel().expect("the host has one")).arg("--initrd").arg(initrd);
        Self::spawn(host, carve)
    }

    fn spawn(host: &Host, mut carve: Command) -> Option<Self> {
        if Command::new("gdb").arg("--version").output().is_err() {
            skip("there is no gdb; cargo xtask setup installs it");
            return None;
        }
        let socket = host.path("gdb.sock");
        carve.arg("--gdb").arg(&socket).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let carve = carve.spawn().expect("carve runs");
        wait_for("the stub listens", || socket.exists().then_some(()));
        Some(Self { carve, socket })
    }

    /// What gdb says when it has connected and carried out these commands.
    fn gdb(&self, commands: &[String]) -> String {
        let mut gdb = Command::new("timeout");
        gdb.args(["120", "gdb", "-nx", "-batch", "-ex", "set pagination off", "-ex"]);
        gdb.arg(format!("target remote {}", self.socket.display()));
        for command in commands {
            gdb.args(["-ex", command]);
        }
        let Output { stdout, stderr, .. } = gdb.output().expect("gdb runs");
        format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
    }

    /// Waits until the guest has printed these words.
    fn until(&mut self, words: &str) {
        let mut lines = BufReader::new(self.carve.stdout.as_mut().expect("it is a pipe")).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line.contains(words))), "{words}");
    }

    /// What the guest has printed, once it has powered off.
    fn end(self) -> String {
        let output = self.carve.wait_with_output().expect("carve ends");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(!self.socket.exists(), "the socket goes with the machine");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// The address of a symbol of the guest's kernel, as gdb takes it.
fn symbol(name: &str) -> String {
    let map = kernel().expect("the host has one").with_file_name("System.map");
    let text = std::fs::read_to_string(&map).unwrap_or_else(|error| panic!("{}: {error}", map.display()));
    let line = text.lines().find(|line| line.split(' ').nth(2) == Some(name));
    format!("0x{}", line.and_then(|line| line.split(' ').next()).expect("the kernel has it"))
}

fn commands(list: &[&str]) -> Vec<String> {
    list.iter().map(|command| (*command).to_owned()).collect()
}

#[test]
fn gdb_stops_the_kernel_steps_it_reads_and_writes_it_and_sees_it_end() {
    let Some(host) = Host::for_vms() else { return };
    let Some(guest) = Debugged::start(&host, "soft", HELLO) else { return };
    let start = symbol("start_kernel");
    let banner = symbol("linux_banner");
    let said = guest.gdb(&commands(&[
        "info registers rip",
        &format!("break *{start}"),
        "continue",
        "info registers rip",
        &format!("x/s {banner}"),
        "stepi",
        "info registers rip",
        "set $rax = 0x1234567",
        "p/x $rax",
        "p $xmm1 = $xmm0",
        "info threads",
        "p/x $cr0",
        "set $cr3 = 0",
        "p $eflags",
        "delete",
        "continue",
    ]));
    assert!(said.contains("= 0x80050033"), "paging is on: {said}");
    assert!(said.contains("Could not write registers"), "{said}");
    assert!(said.contains("0x1000000 "), "it waits before the first instruction: {said}");
    assert!(said.contains(&format!("Breakpoint 1, {start} in ??")), "{said}");
    assert!(said.contains("\"Linux version 6.1"), "{said}");
    let steps = said.matches("\nrip ").count();
    assert!(steps == 3 && said.contains("= 0x1234567"), "{said}");
    assert!(said.contains("Thread 1.1"), "{said}");
    assert!(said.contains("exited normally"), "{said}");
    assert!(guest.end().contains("init says hello"));
}

#[test]
fn a_guest_whose_debugger_has_gone_goes_on_and_another_one_can_stop_it() {
    let Some(host) = Host::for_vms() else { return };
    let script = "echo init says hello\nwhile true; do :; done";
    let Some(mut guest) = Debugged::start(&host, "soft", script) else { return };
    let init = symbol("kernel_init");
    let said = guest.gdb(&commands(&[&format!("hbreak *{init}"), "continue", "detach"]));
    assert!(said.contains("Breakpoint 1, ") && said.contains("detached"), "{said}");
    guest.until("init says hello");
    // The second one stops it wherever it is, and leaves as gdb does at its end.
    let said = guest.gdb(&commands(&["info registers rip", &format!("break *{init}")]));
    assert!(said.contains("rip ") && said.contains("detached"), "{said}");
    guest.gdb(&commands(&["kill"]));
    guest.end();
}

#[test]
fn a_guest_from_a_snapshot_waits_before_its_next_instruction() {
    let Some(host) = Host::for_vms_with(Engine::Soft) else { return };
    let (api, jail) = (host.path("api.sock"), host.path("jail"));
    let initrd = initramfs_with(&host.path(""), "echo init says hello; while true; do :; done");
    let mut boot = host.carve(&["vm", "boot", "--memory", "128", "--kernel"]);
    boot.arg(kernel().unwrap()).arg("--initrd").arg(initrd);
    boot.arg("--api-sock").arg(&api).arg("--jail-root").arg(&jail);
    let mut machine = Guest::start(boot);
    machine.until("init says hello");
    let mut snapshot = host.carve(&["vm", "snapshot", "--state", "/state", "--memory", "/memory"]);
    assert!(snapshot.arg("--api-sock").arg(&api).status().unwrap().success());
    drop(machine);

    let mut restore = host.carve(&["vm", "restore"]);
    restore.arg("--state").arg(jail.join("state")).arg("--memory").arg(jail.join("memory"));
    let Some(guest) = Debugged::spawn(&host, restore) else { return };
    let handler = symbol("asm_sysvec_apic_timer_interrupt");
    let said = guest.gdb(&commands(&[&format!("break *{handler}"), "continue", "delete", "stepi", "kill"]));
    assert!(said.contains(&format!("Breakpoint 1, {handler} in")) && said.contains("killed"), "{said}");
    guest.end();
}

#[test]
fn kill_ends_the_guest() {
    let Some(host) = Host::for_vms() else { return };
    let Some(guest) = Debugged::start(&host, "soft", HELLO) else { return };
    let said = guest.gdb(&commands(&["kill"]));
    assert!(said.contains("killed") && !said.contains("closed"), "{said}");
    assert!(!guest.end().contains("init says hello"));
}

#[test]
fn a_guest_that_runs_is_interrupted_by_ctrl_c() {
    let Some(host) = Host::for_vms() else { return };
    let Some(guest) = Debugged::start(&host, "soft", "while true; do :; done") else { return };
    let said = guest.gdb(&commands(&[
        "python import os, signal, threading",
        "python interrupt = threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT))",
        "python gdb.events.cont.connect(lambda _: interrupt.start())",
        "continue",
        "info registers rip",
        "kill",
    ]));
    assert!(said.contains("SIGINT") && said.contains("rip ") && said.contains("killed"), "{said}");
    guest.end();
}

#[test]
fn programs_are_debugged_too() {
    let Some(host) = Host::for_vms() else { return };
    let Some(guest) = Debugged::start(&host, "soft", HELLO) else { return };
    let entry = entry_of(Path::new("/bin/busybox"));
    let said = guest.gdb(&commands(&[
        &format!("break *{entry}"),
        "continue",
        "info registers cs",
        "stepi",
        "x/i $pc",
        "delete",
        "continue",
    ]));
    assert!(said.contains(&format!("Breakpoint 1, {entry}")), "{said}");
    assert!(said.contains("0x33"), "it is in ring 3: {said}");
    assert!(said.contains("exited normally"), "{said}");
    assert!(guest.end().contains("init says hello"));
}

/// The entry point of a static ELF executable.
fn entry_of(program: &Path) -> String {
    let file = std::fs::read(program).expect("busybox-static is installed");
    format!("0x{:016x}", u64::from_le_bytes(file[24..32].try_into().expect("eight bytes")))
}

#[test]
fn a_guest_that_dies_stops_where_it_does_first() {
    let Some(host) = Host::for_vms() else { return };
    let Some(guest) = Debugged::start(&host, "soft", HELLO) else { return };
    let said = guest.gdb(&commands(&["set $rip = 0xdead0000", "continue", "p/x $cr2", "continue"]));
    assert!(said.contains("received signal SIGSEGV") && said.contains("= 0xdead0000"), "{said}");
    assert!(said.contains("terminated with signal SIGSEGV"), "{said}");
    let output = guest.carve.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("triple fault at 0xdead0000"), "{output:?}");
}

#[test]
fn a_guest_that_dies_without_a_debugger_ends_at_once() {
    let Some(host) = Host::for_vms() else { return };
    let Some(guest) = Debugged::start(&host, "soft", HELLO) else { return };
    guest.gdb(&commands(&["set $rip = 0xdead0000", "detach"]));
    let output = guest.carve.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{output:?}");
}

#[test]
fn carve_that_is_interrupted_ends_a_guest_that_the_debugger_keeps() {
    let Some(host) = Host::for_vms() else { return };
    let Some(guest) = Debugged::start(&host, "soft", HELLO) else { return };
    let _debugger = UnixStream::connect(&guest.socket).unwrap();
    let pid = rustix::process::Pid::from_child(&guest.carve);
    wait_for("carve catches SIGINT", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", guest.carve.id())).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t"))?;
        (u64::from_str_radix(caught, 16).ok()? & 2 != 0).then_some(())
    });
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(!guest.end().contains("init says hello"));
}

#[test]
fn kvms_debug_registers_do_as_well() {
    let Some(host) = Host::for_vms() else { return };
    let Some(guest) = Debugged::start(&host, "kvm", HELLO) else { return };
    let start = symbol("start_kernel");
    let said = guest.gdb(&commands(&[
        &format!("break *{start}"),
        "continue",
        "stepi",
        "info registers rip",
        "set $rax = 0x1234567",
        "p/x $rax",
        &format!("x/s {}", symbol("linux_banner")),
        "break *1",
        "break *2",
        "break *3",
        "break *4",
        "continue",
        "kill",
    ]));
    assert!(said.contains(&format!("Breakpoint 1, {start} in ??")), "{said}");
    assert!(said.contains("= 0x1234567") && said.contains("\"Linux version 6.1"), "{said}");
    assert!(said.contains("Cannot insert breakpoint"), "there are four: {said}");
    assert!(said.contains("killed"), "{said}");
    guest.end();
}

#[test]
fn nonsense_on_the_socket_does_the_guest_no_harm() {
    use std::io::{Read, Write};
    let Some(host) = Host::for_vms() else { return };
    let Some(guest) = Debugged::start(&host, "soft", HELLO) else { return };
    let mut nonsense = UnixStream::connect(&guest.socket).unwrap();
    nonsense.write_all(b"$m0,zz#00$vCont;x#11\x03\xff$G#00$$$###").unwrap();
    nonsense.shutdown(std::net::Shutdown::Write).unwrap();
    let _ = nonsense.read_to_end(&mut Vec::new());
    assert!(guest.end().contains("init says hello"));
}

#[test]
fn a_socket_that_cannot_be_made_is_refused_before_the_guest_starts() {
    let Some(host) = Host::for_vms() else { return };
    let kernel = kernel().unwrap();
    let error = host.fails(
        125,
        &["vm", "boot", "--kernel", kernel.to_str().unwrap(), "--gdb", "/no/such/directory/gdb.sock"],
    );
    assert!(error.contains("give another --gdb"), "{error}");
}
