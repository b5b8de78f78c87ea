//! The socket device of `carve vm boot`: streams between programs of the host and programs of the guest.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::thread;

use tests::{Engine, Host, initramfs_of_checks, kernel};

/// As `guest-checks` has them.
const HOST_PORT: u32 = 5000;
const GUEST_PORT: u32 = 6000;
const STREAMS: u8 = 100;
const BYTES: usize = 48 << 10;

#[test]
fn two_hundred_streams_talk_at_once_under_soft() {
    let Some(host) = Host::for_vms_with(Engine::Soft) else { return };
    let socket = host.path("v.sock");
    let callee = UnixListener::bind(host.path(&format!("v.sock_{HOST_PORT}"))).unwrap();
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

/// A stream to the guest.
fn connect(socket: &std::path::Path) -> UnixStream {
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
