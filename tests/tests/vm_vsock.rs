//! The socket device of `carve vm boot`: streams between programs of the host and programs of the guest.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;

use serde_json::{Value, json};
use tests::{Engine, Host, initramfs_of_checks, kernel, wait_for};

/// As `guest-checks` has them.
const HOST_PORT: u32 = 5000;
const GUEST_PORT: u32 = 6000;
const STREAMS: u8 = 100;
const BYTES: usize = 48 << 10;

#[test]
fn two_hundred_streams_talk_at_once_under_soft() {
    let Some(host) = Host::for_vms_with(Engine::Soft) else { return };
    // The user of a jailed VMM must be able to come here and to write to the socket.
    let sockets = host.path("sockets");
    fs::create_dir(&sockets).unwrap();
    let (socket, for_guest) = (sockets.join("v.sock"), sockets.join(format!("v.sock_{HOST_PORT}")));
    let callee = UnixListener::bind(&for_guest).unwrap();
    fs::set_permissions(&for_guest, fs::Permissions::from_mode(0o666)).unwrap();
    let echoes = thread::spawn(move || {
        let streams: Vec<_> = (0..STREAMS).map(|_| callee.accept().unwrap().0).collect();
        let threads: Vec<_> = streams.into_iter().map(|stream| thread::spawn(move || echo(stream))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });

    let mut boot = host.carve(&["vm", "boot", "--memory", "128", "--cmdline", "-- vsock-streams"]);
    boot.arg("--kernel").arg(kernel().unwrap()).arg("--initrd").arg(initramfs_of_checks(&host.path("")));
    let mut guest = boot.arg("--vsock").arg(&socket).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(guest.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("vsock streams open")), "the guest connects");
    let callers: Vec<_> = (0..STREAMS).map(|_| connect(&socket)).collect();
    let callers: Vec<_> = callers
        .into_iter()
        .zip(0..)
        .map(|(stream, number)| thread::spawn(move || call(&stream, number)))
        .collect();
    let rest: Vec<_> = lines.collect();
    assert!(rest.iter().any(|line| line.contains("guest-checks: vsock-streams ok")), "{rest:#?}");
    callers.into_iter().for_each(|thread| thread.join().unwrap());
    echoes.join().unwrap();
    assert!(guest.wait().unwrap().success());
    assert!(!socket.exists(), "its socket went with the machine");
}

#[test]
fn a_restored_guest_hears_that_its_stream_is_gone_and_makes_a_new_one_under_soft() {
    let Some(host) = Host::for_vms_with(Engine::Soft) else { return };
    let callee = UnixListener::bind(host.path(&format!("v.sock_{HOST_PORT}"))).unwrap();
    let path = |name: &str| host.path(name).to_str().unwrap().to_owned();
    let (mut first, api) = serve(&host, "first.sock");
    for (place, body) in [
        ("/machine-config", json!({"vcpu_count": 1, "mem_size_mib": 128})),
        (
            "/boot-source",
            json!({
                "kernel_image_path": kernel(),
                "initrd_path": initramfs_of_checks(&host.path("")),
                "boot_args": "console=ttyS0 -- vsock-restored",
            }),
        ),
        ("/vsock", json!({"guest_cid": 3, "uds_path": path("v.sock")})),
        ("/actions", json!({"action_type": "InstanceStart"})),
    ] {
        ask(&api, "PUT", place, &body);
    }
    let mut stream = accept(&callee);
    assert_eq!(hear(&mut stream, 7), "waiting");
    let (state, memory) = (path("state"), path("memory"));
    ask(&api, "PATCH", "/vm", &json!({"state": "Paused"}));
    ask(&api, "PUT", "/snapshot/create", &json!({"snapshot_path": state, "mem_file_path": memory}));
    first.kill().unwrap();
    first.wait().unwrap();

    let (second, api) = serve(&host, "second.sock");
    let load = json!({"snapshot_path": state, "mem_file_path": memory, "resume_vm": true});
    ask(&api, "PUT", "/snapshot/load", &load);
    let mut stream = accept(&callee);
    assert_eq!(hear(&mut stream, 8), "restored");
    stream.write_all(b"good").unwrap();
    let output = second.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("guest-checks: vsock-restored ok"), "{said}");
}

/// Starts a process that serves a machine over a control socket of this name.
fn serve(host: &Host, name: &str) -> (Child, std::path::PathBuf) {
    let api = host.path(name);
    let mut command = host.carve(&["vm", "serve", "--api-sock"]);
    let child = command.arg(&api).stdout(Stdio::piped()).spawn().expect("carve starts");
    wait_for("the control socket is there", || api.exists().then_some(()));
    (child, api)
}

/// Asks the machine for something that it must do.
fn ask(api: &Path, method: &str, place: &str, body: &Value) {
    let body = body.to_string();
    let mut stream = UnixStream::connect(api).expect("it listens");
    let length = body.len();
    let head = format!(
        "{method} {place} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + &body).as_bytes()).expect("it hears");
    let mut answer = String::new();
    let line = BufReader::new(stream).read_line(&mut answer);
    assert!(line.is_ok() && answer.contains(" 204 "), "{method} {place}: {answer}");
}

/// The guest's stream, if it comes before the test's patience ends.
fn accept(listener: &UnixListener) -> UnixStream {
    listener.set_nonblocking(true).expect("it is open");
    let (stream, _) = wait_for("the guest connects", || listener.accept().ok());
    stream.set_nonblocking(false).expect("it is open");
    stream
}

/// The next `count` bytes.
fn hear(stream: &mut UnixStream, count: usize) -> String {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).expect("the guest speaks");
    String::from_utf8(bytes).expect("words")
}

/// A stream to the guest.
fn connect(socket: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(socket).expect("the machine listens");
    writeln!(stream, "CONNECT {GUEST_PORT}").expect("the machine hears");
    let mut answer = Vec::new();
    while answer.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the machine answers");
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"OK "), "{answer:?}");
    stream
}

/// Sends this stream's own bytes while it hears them again.
fn call(stream: &UnixStream, number: u8) {
    let bytes: Vec<u8> = (0..=238).cycle().take(BYTES).map(|byte: u8| byte ^ number).collect();
    let mut heard = vec![0; BYTES];
    thread::scope(|scope| {
        scope.spawn(|| { stream }.write_all(&bytes).expect("the guest takes it"));
        { stream }.read_exact(&mut heard).expect("the guest answers");
    });
    assert!(heard == bytes, "stream {number} brought other bytes back");
}

/// Sends back what it hears, until the guest leaves.
fn echo(mut stream: UnixStream) {
    let mut buffer = vec![0; 8192];
    loop {
        match stream.read(&mut buffer).expect("the guest speaks") {
            0 => return,
            count => stream.write_all(&buffer[..count]).expect("the guest hears"),
        }
    }
}
