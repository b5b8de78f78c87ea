//! The whole agent, as PID 1 of namespaces instead of a machine.
//!
//! Loop devices stand for the virtio disks, a Unix socket pair for vsock and a veth for the NIC; `unshare` gives it a
//! process tree, mounts, a host name and a network of its own. In such a process tree reboot(2) ends PID 1 by SIGHUP,
//! which is how the tests see that the machine was reset. Needs root, and skips with a printed reason without it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agent::protocol::{self, FromAgent, Network, Process, RootDisks, Start, ToAgent};
use tempfile::TempDir;

const SIGHUP: i32 = 1;

#[expect(clippy::print_stdout, reason = "a skipped test says so")]
/// Prints why a test did not run and leaves it where `cargo xtask test` counts it.
fn skip(test: &str, reason: &str) {
    println!("skipped {test}: {reason}");
    if let Some(path) = std::env::var_os("CARVE_TEST_SKIPS") {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).expect("skips file opens");
        writeln!(file, "{test}: {reason}").expect("skip noted");
    }
}

/// What this host lacks for these tests.
fn lacking() -> Option<&'static str> {
    let has = |program: &str| {
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|dir| Path::new(dir).join(program).exists())
    };
    if !rustix::process::geteuid().is_root() {
        return Some("not root");
    }
    let programs = ["mkfs.erofs", "mke2fs", "losetup", "unshare", "ip", "busybox"];
    if programs.iter().any(|program| !has(program)) {
        return Some("one of mkfs.erofs, mke2fs, losetup, unshare, ip, busybox is not installed");
    }
    // An ELF file that names no interpreter is static, and runs in a root that holds nothing else.
    let busybox = fs::read("/bin/busybox").unwrap_or_default();
    let dynamic = busybox.windows(8).take(4096).any(|bytes| bytes == b"ld-linux");
    (busybox.is_empty() || dynamic).then_some("/bin/busybox is not the static one (package busybox-static)")
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// A loop device, let go at the end.
struct Loop(String);

impl Loop {
    fn new(file: &Path) -> Self {
        Self(run(Command::new("losetup").args(["-f", "--show"]).arg(file)).trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

/// Two layers and a writable disk.
struct Disks {
    dir: TempDir,
    loops: Vec<Loop>,
}

impl Disks {
    fn new() -> Self {
        let dir = TempDir::new().expect("dir");
        let base = dir.path().join("base");
        for path in ["bin", "etc", "var"] {
            fs::create_dir_all(base.join(path)).expect("made");
        }
        fs::copy("/bin/busybox", base.join("bin/busybox")).expect("copied");
        for applet in
            ["sh", "cat", "id", "hostname", "ip", "sleep", "kill", "head", "seq", "rm", "ls", "grep"]
        {
            std::os::unix::fs::symlink("busybox", base.join("bin").join(applet)).expect("linked");
        }
        fs::write(base.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/var:/bin/sh\n")
            .expect("written");
        fs::write(base.join("etc/text"), "base").expect("written");
        fs::write(base.join("bin/data"), "no program").expect("written");
        let top = dir.path().join("top");
        fs::create_dir_all(top.join("etc")).expect("made");
        fs::write(top.join("etc/text"), "top").expect("written");
        // A trap: the agent must write /etc/hosts in the app's root, not where this leads.
        std::os::unix::fs::symlink("/nowhere/hosts", top.join("etc/hosts")).expect("linked");
        let mut loops = Vec::new();
        for layer in [&base, &top] {
            let file = layer.with_extension("erofs");
            run(Command::new("mkfs.erofs").arg("--quiet").arg(&file).arg(layer));
            loops.push(Loop::new(&file));
        }
        let disk = dir.path().join("disk.ext4");
        fs::File::create(&disk).expect("made").set_len(16 << 20).expect("sized");
        run(Command::new("mke2fs").args(["-q", "-t", "ext4", "-F"]).arg(&disk));
        loops.push(Loop::new(&disk));
        Self { dir, loops }
    }
}

/// A running agent and the engine's end of its connection.
struct Guest {
    child: Child,
    engine: UnixStream,
}

impl Guest {
    /// Starts the agent in a root of its own that holds what a dynamically linked test binary needs.
    fn boot(disks: &Disks) -> Self {
        let (engine, theirs) = UnixStream::pair().expect("pair");
        engine.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let root = disks.dir.path().join("initramfs");
        fs::create_dir_all(&root).expect("made");
        let mut script = format!(
            "set -e; mount -t tmpfs none {root}; cd {root}; mkdir lib lib64 usr usr/lib testdev\n\
             for d in lib lib64 usr/lib; do mount --bind /$d $d; done\n\
             cp {agent} init; mknod testdev/null c 1 3; chmod 666 testdev/null\n\
             ip link add eth0 type veth peer name far; ip link set far up\n",
            root = root.display(),
            agent = env!("CARGO_BIN_EXE_carve-agent"),
        );
        for (device, letter) in disks.loops.iter().zip("abc".chars()) {
            let number = device.0.trim_start_matches("/dev/loop");
            script.push_str(&format!("mknod testdev/vd{letter} b 7 {number}\n"));
        }
        script.push_str("exec chroot . /init --connection 0 --dev /testdev\n");
        let child = Command::new("unshare")
            .args(["-m", "-n", "-p", "-f", "-u", "sh", "-c", &script])
            // The agent finds its connection where a kernel without a console would put it: at the first free number.
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .spawn()
            .expect("started");
        let mut guest = Self { child, engine };
        assert_eq!(guest.next(), Some(FromAgent::Ready));
        guest
    }

    fn tell(&mut self, message: &ToAgent) {
        protocol::send(&mut self.engine, message).expect("told");
    }

    fn next(&mut self) -> Option<FromAgent> {
        protocol::receive(&mut self.engine).expect("a message")
    }

    /// Starts a shell script as the app.
    fn start(&mut self, user: &str, script: &str) {
        self.start_args(user, &["sh", "-c", script]);
    }

    fn start_args(&mut self, user: &str, args: &[&str]) {
        let start = Start {
            time_ns: 0,
            hostname: "guest-test".into(),
            root: RootDisks { layers: vec![0, 1], writable: 2 },
            network: Some(Network {
                address: [10, 9, 8, 7].into(),
                prefix: 24,
                gateway: [10, 9, 8, 1].into(),
                mtu: 1400,
            }),
            hosts: vec![("10.9.8.6".into(), "db".into())],
            resolv_conf: "nameserver 10.9.8.1\n".into(),
            process: Process {
                args: args.iter().map(|arg| (*arg).to_owned()).collect(),
                env: vec!["PATH=/nowhere:/bin".into(), "COLOUR=blue".into()],
                cwd: "/srv/made".into(),
                user: user.into(),
            },
        };
        self.tell(&ToAgent::Start(Box::new(start)));
    }

    /// Everything until the end: output, errors, and the exit code.
    fn finish(mut self) -> (String, String, i32) {
        let (mut out, mut err, mut code) = (Vec::new(), Vec::new(), None);
        while let Some(message) = self.next() {
            match message {
                FromAgent::Stdout(bytes) => out.extend(bytes),
                FromAgent::Stderr(bytes) => err.extend(bytes),
                FromAgent::Exited(exit) => code = Some(exit),
                FromAgent::Started(_) | FromAgent::Stats(_) => {}
                other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&err)),
            }
        }
        self.reset();
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (text(out), text(err), code.expect("an exit code"))
    }

    /// Waits for the machine's reset.
    fn reset(&mut self) {
        assert_eq!(self.child.wait().expect("waited").signal(), Some(SIGHUP));
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Disks, or `None` and a printed reason.
fn disks(test: &str) -> Option<Disks> {
    match lacking() {
        Some(reason) => {
            skip(test, reason);
            None
        }
        None => Some(Disks::new()),
    }
}

#[test]
fn the_app_finds_its_root_files_network_user_and_environment() {
    let Some(disks) = disks("the_app_finds_its_root_files_network_user_and_environment") else { return };
    let mut guest = Guest::boot(&disks);
    guest.start(
        "web",
        "cat /etc/text; echo; id -u; id -g; pwd; echo $HOME $COLOUR; hostname; cat /etc/hostname /etc/hosts \
         /etc/resolv.conf; ip -4 -o addr show dev eth0; ip route; cat /sys/class/net/eth0/mtu; echo to-error >&2; \
         ls /dev/pts/ptmx /dev/fd /newroot /layers; echo written > /dev/stdout; exit 3",
    );
    let (out, err, code) = guest.finish();
    let expected_start = "top\n33\n34\n/srv/made\n/var blue\nguest-test\nguest-test\n127.0.0.1\tlocalhost\n\
                          ::1\tlocalhost ip6-localhost ip6-loopback\n10.9.8.6\tdb\n10.9.8.7\tguest-test\n\
                          nameserver 10.9.8.1\n";
    assert!(out.starts_with(expected_start), "{out}");
    for part in ["10.9.8.7/24 brd 10.9.8.255", "default via 10.9.8.1 dev eth0", "\n1400\n", "/dev/pts/ptmx"] {
        assert!(out.contains(part), "{part:?} is missing in {out}");
    }
    assert!(out.ends_with("written\n"), "{out}");
    assert!(err.starts_with("to-error\n") && err.contains("/layers: No such file"), "{err}");
    assert_eq!(code, 3);
}

#[test]
fn what_the_app_writes_is_there_at_the_next_start_and_the_disk_is_clean() {
    let Some(disks) = disks("what_the_app_writes_is_there_at_the_next_start_and_the_disk_is_clean") else {
        return;
    };
    let mut guest = Guest::boot(&disks);
    guest.start("", "echo kept > /var/kept; rm /etc/text; echo x > /new");
    assert_eq!(guest.finish().2, 0);
    run(Command::new("e2fsck").args(["-fn", &disks.loops[2].0]));
    let mut guest = Guest::boot(&disks);
    guest.start("", "cat /var/kept /new; ls /etc/text");
    let (out, err, code) = guest.finish();
    assert_eq!((out.as_str(), code), ("kept\nx\n", 1));
    assert!(err.contains("/etc/text: No such file"), "{err}");
}

#[test]
fn input_reaches_the_app_and_much_output_comes_back_whole() {
    let Some(disks) = disks("input_reaches_the_app_and_much_output_comes_back_whole") else { return };
    let mut guest = Guest::boot(&disks);
    guest.start("", "cat; seq 1 200000");
    let line = b"0123456789abcdef\n";
    let chunk: Vec<u8> = line.iter().copied().cycle().take(17 * 1000).collect();
    let mut engine = guest.engine.try_clone().expect("cloned");
    let bytes = chunk.clone();
    let sender = std::thread::spawn(move || {
        for _ in 0..50 {
            protocol::send(&mut engine, &ToAgent::Stdin(bytes.clone())).expect("sent");
        }
        protocol::send(&mut engine, &ToAgent::CloseStdin).expect("sent");
    });
    let (out, _, code) = guest.finish();
    sender.join().expect("sent all");
    let numbers: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    let echoed = String::from_utf8(chunk).expect("text").repeat(50);
    assert_eq!(code, 0);
    assert!(out == echoed + &numbers, "{} bytes came back", out.len());
}

#[test]
fn signals_reach_the_app_and_orphans_do_not_outlive_it() {
    let Some(disks) = disks("signals_reach_the_app_and_orphans_do_not_outlive_it") else { return };
    let mut guest = Guest::boot(&disks);
    // The orphans hold the app's output open: without the agent's help it would never end.
    guest.start(
        "",
        "(sleep 1000 &) ; (sleep 1001 &); trap 'echo caught' USR1; echo go; while :; do sleep 0.05; done",
    );
    while guest.next() != Some(FromAgent::Stdout(b"go\n".to_vec())) {}
    guest.tell(&ToAgent::Signal(0));
    guest.tell(&ToAgent::Signal(10));
    guest.tell(&ToAgent::Stats);
    loop {
        match guest.next() {
            Some(FromAgent::Stats(stats)) => assert!(stats.total > 0),
            Some(FromAgent::Stdout(bytes)) if bytes == b"caught\n" => break,
            other => panic!("{other:?}"),
        }
    }
    guest.tell(&ToAgent::Signal(15));
    assert_eq!(guest.finish().2, 128 + 15);
}

#[test]
fn programs_that_cannot_run_fail_with_dockers_codes() {
    let Some(disks) = disks("programs_that_cannot_run_fail_with_dockers_codes") else { return };
    let cases: [(&str, &[&str], i32, &str); 4] = [
        ("", &["missing"], 127, "cannot run \"missing\": No such file or directory"),
        ("", &["/bin/data"], 126, "cannot run \"/bin/data\": Permission denied"),
        ("", &[], 125, "no command given"),
        ("nobody", &["sh"], 125, "user \"nobody\" is not in /etc/passwd"),
    ];
    fs::set_permissions(disks.dir.path().join("base/bin/data"), fs::Permissions::from_mode(0o644))
        .expect("set");
    for (user, args, code, text) in cases {
        let mut guest = Guest::boot(&disks);
        guest.start_args(user, args);
        match guest.next() {
            Some(FromAgent::Failed(failure)) => {
                assert_eq!(failure.exit_code, code, "{failure:?}");
                assert!(failure.message.contains(text), "{failure:?}");
            }
            other => panic!("{other:?}"),
        }
        guest.reset();
    }
}

#[test]
fn a_lost_engine_and_a_shutdown_end_the_app_and_the_machine() {
    let Some(disks) = disks("a_lost_engine_and_a_shutdown_end_the_app_and_the_machine") else { return };
    let mut guest = Guest::boot(&disks);
    guest.start("", "echo go; sleep 1000");
    while guest.next() != Some(FromAgent::Stdout(b"go\n".to_vec())) {}
    guest.engine.shutdown(std::net::Shutdown::Both).expect("closed");
    guest.reset();

    let mut guest = Guest::boot(&disks);
    guest.start("", "sleep 1000");
    guest.tell(&ToAgent::Shutdown);
    assert_eq!(guest.finish().2, 128 + 9);

    let mut guest = Guest::boot(&disks);
    guest.tell(&ToAgent::Shutdown);
    assert_eq!(guest.next(), None);
    guest.reset();
}

#[test]
fn a_missing_disk_is_named() {
    let Some(mut disks) = disks("a_missing_disk_is_named") else { return };
    disks.loops.pop();
    let mut guest = Guest::boot(&disks);
    guest.start("", "true");
    match guest.next() {
        Some(FromAgent::Failed(failure)) => {
            assert_eq!(failure.exit_code, 125);
            assert!(failure.message.contains("/dev/vdc"), "{failure:?}");
        }
        other => panic!("{other:?}"),
    }
    guest.reset();
}
