//! Terminals of `carve oci`: sent to a console socket, or joined to the one that the command was started in.

#![expect(clippy::unwrap_used, reason = "these are tests, though clippy sees no #[test] at what they share")]

use std::{
    fs::{self, File},
    io::{ErrorKind, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixListener},
    process::{Child, Command, Stdio},
};

use rustix::{
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use serde_json::{Value, json};
use tests::{Host, OciContainer, WAITING, wait_for};

/// What tells a terminal that is the program's own: its name, its size, that it controls the session, its owner.
const ABOUT: &str = "tty; stty size; echo controls > /dev/tty; stat -c %u $(tty); \
    stat -c %t:%T /dev/console $(tty)";

fn with_terminal(config: &mut Value) {
    config["process"]["terminal"] = json!(true);
    config["process"]["consoleSize"] = json!({"height": 33, "width": 77});
}

/// The terminal that is sent to a console socket.
fn receive(listener: &UnixListener) -> (String, File) {
    let (socket, _) = listener.accept().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    let message =
        recvmsg(&socket, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let fds: Vec<OwnedFd> = control
        .drain()
        .flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => rights.collect(),
            _ => Vec::new(),
        })
        .collect();
    let [master] = <[OwnedFd; 1]>::try_from(fds).unwrap();
    (String::from_utf8_lossy(&name[..message.bytes]).into_owned(), master.into())
}

/// All that is written to a terminal until its other side is closed.
fn read_to_end(mut master: &File) -> String {
    let mut text = Vec::new();
    let mut bytes = [0; 1024];
    loop {
        match master.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => text.extend(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EIO), "{error}");
                break;
            }
        }
    }
    String::from_utf8_lossy(&text).replace('\r', "")
}

/// A terminal for a command to be started in: the person's side, and the command's.
fn terminal() -> (File, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    (master.into(), slave.into())
}

fn start_in(command: &mut Command, terminal: &File) -> Child {
    let copy = || Stdio::from(terminal.try_clone().unwrap());
    command.stdin(copy()).stdout(copy()).stderr(copy()).spawn().unwrap()
}

#[test]
fn a_created_containers_terminal_is_sent_to_the_console_socket() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(&host, &["sh", "-c", ABOUT], |config| {
        with_terminal(config);
        config["process"]["user"] = json!({"uid": 12, "gid": 34});
    });
    let listener = UnixListener::bind(bundle.dir.join("console")).unwrap();
    let _ = bundle.ok(&["create", "--console-socket", "console", "ID"]);
    let (name, master) = receive(&listener);
    assert_eq!(name, "/dev/ptmx");
    let _ = bundle.ok(&["start", "ID"]);
    let said = read_to_end(&master);
    assert_eq!(said, "/dev/pts/0\n33 77\ncontrols\n12\n88:0\n88:0\n");
}

#[test]
fn a_terminal_and_a_console_socket_belong_together() {
    let Some(host) = Host::for_containers() else { return };
    let with = OciContainer::new(&host, &WAITING, with_terminal);
    for args in [&["create", "ID"][..], &["run", "--detach", "ID"]] {
        assert!(with.fails(1, args).contains("console socket"), "{args:?}");
    }
    assert!(with.fails(1, &["create", "--console-socket", "none", "ID"]).contains("none"));
    assert_eq!(with.ok(&["list", "--quiet"]), "");
    drop(with);
    fs::remove_dir_all(host.path("bundle")).unwrap();
    let without = OciContainer::new(&host, &WAITING, |_| ());
    let _listener = UnixListener::bind(without.dir.join("console")).unwrap();
    assert!(without.fails(1, &["create", "--console-socket", "console", "ID"]).contains("process.terminal"));
    without.start();
    assert!(without.fails(255, &["exec", "--tty", "--detach", "ID", "true"]).contains("console socket"));
    assert!(
        without
            .fails(255, &["exec", "--console-socket", "console", "ID", "true"])
            .contains("process.terminal")
    );
}

#[test]
fn a_container_without_a_devpts_can_have_no_terminal() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(&host, &WAITING, |config| {
        with_terminal(config);
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/dev/pts");
    });
    let _listener = UnixListener::bind(bundle.dir.join("console")).unwrap();
    let error = bundle.fails(1, &["create", "--console-socket", "console", "ID"]);
    assert!(error.contains("/dev/pts"), "{error}");
    // A file of its own in that place is not opened.
    fs::create_dir_all(bundle.rootfs().join("dev/pts")).unwrap();
    fs::write(bundle.rootfs().join("dev/pts/ptmx"), "").unwrap();
    let path = bundle.dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] == "/proc");
    fs::write(&path, config.to_string()).unwrap();
    let error = bundle.fails(1, &["create", "--console-socket", "console", "ID"]);
    assert!(error.contains("is no devpts"), "{error}");
}

#[test]
fn what_is_mounted_over_the_kernels_file_is_not_opened() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(&host, &WAITING, |config| {
        let over = json!({"destination": "/dev/pts/ptmx", "type": "bind", "source": "/dev/zero", "options": ["bind"]});
        config["mounts"].as_array_mut().unwrap().push(over);
    });
    bundle.start();
    let error = bundle.fails(255, &["exec", "--tty", "ID", "true"]);
    assert!(error.contains("/dev/pts/ptmx"), "{error}");
}

#[test]
fn exec_gives_a_terminal_too() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(&host, &WAITING, |_| ());
    bundle.start();
    let listener = UnixListener::bind(bundle.dir.join("console")).unwrap();
    let detached = ["exec", "--tty", "--detach", "--console-socket", "console", "--user", "12", "ID"];
    let about = "tty; echo controls > /dev/tty; stat -c %u $(tty)";
    let _ = bundle.ok(&[&detached[..], &["sh", "-c", about]].concat());
    assert_eq!(read_to_end(&receive(&listener).1), "/dev/pts/0\ncontrols\n12\n");
    assert_eq!(bundle.run(&["exec", "ID", "tty"]).stdout, b"not a tty\n");
}

#[test]
fn a_program_in_the_foreground_has_the_commands_terminal() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(
        &host,
        &["sh", "-c", "tty; stty size; read line; echo got $line; exit 5"],
        with_terminal,
    );
    for exec in [false, true] {
        let (mut person, theirs) = terminal();
        tcsetwinsize(&theirs, Winsize { ws_row: 40, ws_col: 90, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let script = "tty; stty size; read line; echo got $line; exit 5";
        let mut command = if exec {
            // Beside a first process that does not end meanwhile.
            let path = bundle.dir.join("config.json");
            let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            config["process"]["args"] = json!(WAITING);
            config["process"]["terminal"] = json!(false);
            fs::write(&path, config.to_string()).unwrap();
            bundle.start();
            bundle.carve(&["exec", "--tty", "ID", "sh", "-c", script])
        } else {
            bundle.carve(&["run", "ID"])
        };
        let mut child = start_in(&mut command, &theirs);
        let echoes = || tcgetattr(&theirs).unwrap().local_modes.contains(LocalModes::ECHO);
        wait_for("the terminal is raw", || (!echoes()).then_some(()));
        person.write_all(b"hello\r").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(5), "exec: {exec}");
        assert!(echoes(), "the terminal is as it was before");
        drop((theirs, command));
        let said = read_to_end(&person);
        // What is typed is echoed when it comes, in between what the program says.
        assert!(said.contains("/dev/pts/0\n") && said.contains("40 90\n"), "{said:?}");
        assert!(said.ends_with("got hello\n"), "{said:?}");
    }
}

#[test]
fn a_change_of_size_and_a_signal_reach_the_program() {
    let Some(host) = Host::for_containers() else { return };
    let script =
        "trap 'stty size; exit 4' WINCH; trap 'exit 6' TERM; echo ready; while :; do sleep 0.05; done";
    let bundle = OciContainer::new(&host, &["sh", "-c", script], with_terminal);
    for (signal, code) in [(Signal::WINCH, 4), (Signal::TERM, 6)] {
        let (mut person, theirs) = terminal();
        let mut command = bundle.carve(&["run", "ID"]);
        let mut child = start_in(&mut command, &theirs);
        let mut ready = [0; 7];
        person.read_exact(&mut ready).unwrap();
        tcsetwinsize(&theirs, Winsize { ws_row: 11, ws_col: 22, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        // The test's own terminal is not the command's controlling one, which would be told by the kernel.
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(tcgetattr(&theirs).unwrap().local_modes.contains(LocalModes::ECHO));
        drop((theirs, command));
        let said = read_to_end(&person);
        assert_eq!(said.contains("11 22"), signal == Signal::WINCH, "{said:?}");
    }
}

#[test]
fn much_output_comes_whole_through_a_terminal() {
    let Some(host) = Host::for_containers() else { return };
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done";
    let bundle = OciContainer::new(&host, &["sh", "-c", script], with_terminal);
    let output = bundle.run(&["run", "ID"]);
    let lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 3000);
    assert!(lines.iter().enumerate().all(|(number, line)| *line == format!("line {number}")));
}
