use std::path::PathBuf;
use std::thread;

use serde_json::json;

use super::*;
use crate::api::Client as ApiClient;
use crate::api::fake;

/// A server with a fake guest on a socket of its own, until `stop` is dropped.
struct Server {
    dir: tempfile::TempDir,
    stop: Option<std::io::PipeWriter>,
    thread: Option<thread::JoinHandle<Result<Served, ServeError>>>,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("api")).unwrap();
        let (stopped, stop) = std::io::pipe().unwrap();
        let body = move || {
            let (mut controller, _) = fake::controller();
            serve(&listener, &mut controller, stopped.as_fd())
        };
        Self { dir, stop: Some(stop), thread: Some(thread::spawn(body)) }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("api")
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.path()).unwrap()
    }

    fn boot(&self) -> ApiClient {
        let client = ApiClient::new(&self.path());
        client.put("/boot-source", &json!({ "kernel_image_path": "k" })).unwrap();
        client.put("/actions", &json!({ "action_type": "InstanceStart" })).unwrap();
        client
    }

    fn end(&mut self) -> Served {
        self.stop = None;
        self.wait()
    }

    fn wait(&mut self) -> Served {
        self.thread.take().unwrap().join().unwrap().unwrap()
    }
}

/// Reads `count` answers.
fn answers(stream: &mut UnixStream, count: usize) -> String {
    let mut text = String::new();
    while text.matches("HTTP/1.1 ").count() < count || !text.ends_with(['}', '\n']) {
        let mut bytes = [0; 4096];
        let len = stream.read(&mut bytes).unwrap();
        assert!(len > 0, "the connection was closed after {text}");
        text += str::from_utf8(&bytes[..len]).unwrap();
    }
    text
}

#[test]
fn a_connection_serves_request_after_request() {
    let mut server = Server::start();
    let mut stream = server.connect();
    for _ in 0..3 {
        stream.write_all(b"GET /version HTTP/1.1\r\n\r\n").unwrap();
        assert!(answers(&mut stream, 1).contains("firecracker_version"));
    }
    stream.write_all(b"GET / HTTP/1.1\r\n\r\nGET /vm/config HTTP/1.1\r\n\r\n").unwrap();
    assert!(answers(&mut stream, 2).contains("machine-config"));
    stream.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("Not started"), "{rest}");
    assert_eq!(server.end(), Served::Nothing);
}

#[test]
fn the_body_is_waited_for_and_asked_for() {
    let mut server = Server::start();
    let mut stream = server.connect();
    let body = br#"{"kernel_image_path": "k"}"#;
    let head = format!(
        "PUT /boot-source HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    assert!(answers(&mut stream, 1).starts_with("HTTP/1.1 100 Continue"));
    stream.write_all(&body[..10]).unwrap();
    thread::sleep(Duration::from_millis(5));
    stream.write_all(&body[10..]).unwrap();
    assert!(answers(&mut stream, 1).starts_with("HTTP/1.1 204"));
    server.end();
}

#[test]
fn nonsense_is_answered_and_the_connection_closed() {
    let mut server = Server::start();
    for (nonsense, wanted) in [
        ("nonsense\r\n\r\n", "400 Bad Request"),
        ("PUT / HTTP/1.1\r\nContent-Length: 99999\r\n\r\n", "413 Payload Too Large"),
    ] {
        let mut stream = server.connect();
        stream.write_all(nonsense.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(wanted) && answer.contains("fault_message"), "{answer}");
    }
    server.end();
}

#[test]
fn a_client_that_neither_reads_nor_finishes_does_not_stop_others() {
    let mut server = Server::start();
    let mut idle: Vec<_> = (0..MAX_CLIENTS - 1).map(|_| server.connect()).collect();
    idle[0].write_all(b"PUT /vm HT").unwrap();
    // Much more than its socket takes of answers.
    idle[1].set_nonblocking(true).unwrap();
    while idle[1].write(b"GET /vm/config HTTP/1.1\r\n\r\n").is_ok() {}
    let client = server.boot();
    assert_eq!(client.get("/").unwrap()["state"], "Running");
    let last = server.connect();
    let mut refused = server.connect();
    let mut answer = String::new();
    refused.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    drop((idle, last));
    server.end();
}

#[test]
fn the_server_ends_with_its_guest() {
    let mut server = Server::start();
    let client = server.boot();
    client.put("/actions", &json!({ "action_type": "SendCtrlAltDel" })).unwrap();
    assert_eq!(server.wait(), Served::Guest(VmExit::Stopped));
}

#[test]
fn a_server_that_is_told_to_end_ends_its_guest() {
    let mut server = Server::start();
    server.boot();
    assert_eq!(server.end(), Served::Guest(VmExit::Stopped));
}
