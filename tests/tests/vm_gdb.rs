//! `carve vm boot --gdb`: Debian's gdb drives a guest's kernel.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tests::{Host, initramfs_with, kernel, skip};

const HELLO: &str = "/bin/busybox echo init says hello\n/bin/busybox poweroff -f";

/// A guest that waits for gdb.
struct Debugged {
    carve: Child,
    socket: PathBuf,
}

impl Debugged {
    fn start(host: &Host, engine: &str, script: &str) -> Option<Self> {
        if Command::new("gdb").arg("--version").output().is_err() {
            skip("there is no gdb; cargo xtask setup installs it");
            return None;
        }
        let initrd = initramfs_with(&host.path(""), script);
        let socket = host.path("gdb.sock");
        let mut carve = host.carve(&["vm", "boot", "--memory", "128", "--engine", engine, "--kernel"]);
        carve.arg(kernel().expect("the host has one")).arg("--initrd").arg(initrd);
        carve.arg("--gdb").arg(&socket).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let carve = carve.spawn().expect("carve runs");
        let deadline = Instant::now() + Duration::from_secs(20);
        while !socket.exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
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
        "delete",
        "continue",
    ]));
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
fn nonsense_on_the_socket_does_the_guest_no_harm() {
    use std::io::{Read, Write};
    let Some(host) = Host::for_vms() else { return };
    let Some(guest) = Debugged::start(&host, "soft", HELLO) else { return };
    let mut nonsense = std::os::unix::net::UnixStream::connect(&guest.socket).unwrap();
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
