//! The vsock device between a guest's driver and host programs.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;
use crate::virtio::testing::Buffer::{Readable, Writable};
use crate::virtio::testing::{Driver, hostile};
use crate::virtio::vsock::header::{HEADER_BYTES, HEADER_SIZE, HOST_CID, Header, Op, STREAM};
use crate::virtio::vsock::muxer::MAX_CONNECTIONS;

mod closing;
mod flow;
mod hostile_guest;
mod many;
mod pressure;
mod restoring;

const CID: u32 = 7;
/// A guest buffer takes this much data.
const ROOM: u32 = 4096;
/// The guest's receive buffer in most tests.
const GUEST_BUFFER: u32 = 256 * 1024;

struct Guest {
    driver: Driver,
    /// Head and address of the buffers the device has.
    buffers: Vec<(u16, u64)>,
    path: PathBuf,
    device: Arc<Mutex<Vsock>>,
    _directory: tempfile::TempDir,
}

fn guest_without_buffers() -> Guest {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("v.sock");
    let device = Arc::new(Mutex::new(Vsock::new(&VsockConfig::new(CID, &path)).unwrap()));
    let driver = Driver::started_sharing(device.clone());
    Guest { driver, buffers: Vec::new(), path, device, _directory: directory }
}

fn guest() -> Guest {
    let mut guest = guest_without_buffers();
    guest.give_buffers(64);
    guest
}

fn packet(op: Op, host_port: u32, guest_port: u32) -> Header {
    Header {
        src_cid: u64::from(CID),
        dst_cid: HOST_CID,
        src_port: guest_port,
        dst_port: host_port,
        kind: STREAM,
        op: op as u16,
        buf_alloc: GUEST_BUFFER,
        ..Header::default()
    }
}

impl Guest {
    fn give_buffers(&mut self, count: usize) {
        for _ in 0..count {
            let address = self.driver.allocate(HEADER_BYTES + ROOM);
            let head = self.driver.queue(RECEIVE, &[Writable(address, HEADER_BYTES + ROOM)]);
            self.buffers.push((head, address));
        }
        self.driver.notify(RECEIVE);
    }

    fn send(&mut self, header: Header, data: &[u8]) {
        let header = Header { len: data.len() as u32, ..header };
        self.send_exactly(header, data);
    }

    fn send_exactly(&mut self, header: Header, data: &[u8]) {
        let place = self.driver.put(&header.to_bytes());
        let payload = self.driver.put(data);
        self.driver.queue(TRANSMIT, &[Readable(place, 44), Readable(payload, data.len() as u32)]);
        self.driver.notify(TRANSMIT);
    }

    /// The packets that have arrived, and new buffers in place of theirs.
    fn receive(&mut self) -> Vec<(Header, Vec<u8>)> {
        self.driver.run();
        let mut packets = Vec::new();
        for (head, written) in self.driver.used(RECEIVE) {
            let index = self.buffers.iter().position(|buffer| buffer.0 == head).unwrap();
            let (_, address) = self.buffers.remove(index);
            let bytes = self.driver.get(address, written as usize);
            let (header, data) = bytes.split_first_chunk().unwrap();
            let header = Header::parse(header);
            assert_eq!((header.dst_cid, header.len as usize), (u64::from(CID), data.len()));
            packets.push((header, data.to_vec()));
        }
        if !packets.is_empty() {
            self.give_buffers(packets.len());
        }
        packets
    }

    fn receive_one(&mut self) -> (Header, Vec<u8>) {
        let mut packets = self.receive();
        assert_eq!(packets.len(), 1, "{packets:?}");
        packets.remove(0)
    }

    fn receive_ops(&mut self) -> Vec<(u16, u32)> {
        self.receive().iter().map(|(header, _)| (header.op, header.flags)).collect()
    }

    /// Everything the host sends until it stops, giving credit all the while.
    fn receive_data(&mut self, host: u32, guest: u32) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let packets = self.receive();
            if packets.is_empty() {
                return all;
            }
            for (header, data) in packets {
                assert!(header.op == Op::Data as u16 || header.op == Op::CreditRequest as u16);
                all.extend(data);
            }
            self.send(Header { fwd_cnt: all.len() as u32, ..packet(Op::CreditUpdate, host, guest) }, &[]);
        }
    }

    /// A client of the host's, connected to the guest's port 52. Returns it and the host's port.
    fn client(&mut self) -> (UnixStream, u32) {
        let mut client = UnixStream::connect(&self.path).unwrap();
        client.write_all(b"CONNECT 52\n").unwrap();
        let (request, _) = self.receive_one();
        assert_eq!((request.op, request.dst_port), (Op::Request as u16, 52));
        self.send(packet(Op::Response, request.src_port, 52), &[]);
        let mut answer = vec![0; format!("OK {}\n", request.src_port).len()];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), format!("OK {}\n", request.src_port));
        (client, request.src_port)
    }

    /// A host program at port 80, connected to by the guest's port 1000.
    fn server(&mut self) -> UnixStream {
        let listener = self.listen(80);
        self.send(packet(Op::Request, 80, 1000), &[]);
        let (response, _) = self.receive_one();
        assert_eq!((response.op, response.src_port, response.dst_port), (Op::Response as u16, 80, 1000));
        assert_eq!(response.buf_alloc, 64 * 1024);
        listener.accept().unwrap().0
    }

    fn count(&self, name: &str) -> u64 {
        let counters = self.device.lock().unwrap().counters();
        counters.iter().find(|counter| counter.name == name).unwrap().value
    }

    fn listen(&self, port: u32) -> UnixListener {
        let path = format!("{}_{port}", self.path.display());
        // Left by an earlier listener of the same test.
        let _ = std::fs::remove_file(&path);
        UnixListener::bind(path).unwrap()
    }
}

/// Each connection of a test takes two descriptors of this process.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + index / 251) as u8).collect()
}

fn op(op: Op) -> u16 {
    op as u16
}

#[test]
fn tells_its_cid() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::started(Vsock::new(&VsockConfig::new(CID, directory.path().join("v"))).unwrap());
    assert_eq!((driver.read32(0x100), driver.read32(0x104)), (CID, 0));
}

#[test]
fn refuses_reserved_cids_and_impossible_paths() {
    let directory = tempfile::tempdir().unwrap();
    for guest_cid in [0, 1, 2, u32::MAX] {
        let config = VsockConfig::new(guest_cid, directory.path().join("v"));
        assert!(matches!(Vsock::new(&config), Err(VsockError::Cid(cid)) if cid == guest_cid));
    }
    for path in [directory.path().join("absent/v"), directory.path().join("x".repeat(120))] {
        let error = Vsock::new(&VsockConfig::new(3, &path)).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_host_client_reaches_the_guest_and_back() {
    let mut guest = guest();
    let (mut client, port) = guest.client();
    assert!(port >= 1 << 30);
    client.write_all(b"hello guest").unwrap();
    let (header, data) = guest.receive_one();
    assert_eq!((header.op, header.src_port, header.dst_port), (op(Op::Data), port, 52));
    assert_eq!(data, b"hello guest");
    guest.send(packet(Op::Data, port, 52), b"hello host");
    let mut back = [0; 10];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello host");
}

#[test]
fn a_client_that_comes_before_the_driver_is_served_once_it_is_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("v.sock");
    let device = Arc::new(Mutex::new(Vsock::new(&VsockConfig::new(CID, &path)).unwrap()));
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"CONNECT 52\n").unwrap();
    let driver = Driver::started_sharing(device.clone());
    let mut guest = Guest { driver, buffers: Vec::new(), path, device, _directory: directory };
    guest.give_buffers(4);
    assert_eq!(guest.receive_ops(), [(op(Op::Request), 0)]);
}

#[test]
fn the_guest_reaches_a_host_program_and_back() {
    let mut guest = guest();
    let mut server = guest.server();
    guest.send(packet(Op::Data, 80, 1000), b"GET /");
    let mut request = [0; 5];
    server.read_exact(&mut request).unwrap();
    assert_eq!(&request, b"GET /");
    server.write_all(b"200").unwrap();
    assert_eq!(guest.receive_one().1, b"200");
}

#[test]
fn a_connect_to_nobody_is_reset() {
    let mut guest = guest();
    guest.send(packet(Op::Request, 81, 1000), &[]);
    let (header, _) = guest.receive_one();
    assert_eq!((header.op, header.src_port, header.dst_port), (op(Op::Reset), 81, 1000));
    drop(guest.listen(82));
    guest.send(packet(Op::Request, 82, 1000), &[]);
    assert_eq!(guest.receive_ops(), [(op(Op::Reset), 0)]);
}

#[test]
fn packets_without_a_connection_are_reset_except_resets() {
    let mut guest = guest();
    for which in [Op::Response, Op::Shutdown, Op::Data, Op::CreditUpdate, Op::CreditRequest] {
        guest.send(packet(which, 5, 6), &[]);
        let (header, _) = guest.receive_one();
        assert_eq!((header.op, header.src_port, header.dst_port), (op(Op::Reset), 5, 6), "{which:?}");
    }
    guest.send(packet(Op::Reset, 5, 6), &[]);
    assert_eq!(guest.receive(), []);
}

#[test]
fn other_socket_types_and_destinations_are_reset_in_kind() {
    let mut guest = guest();
    guest.send(Header { kind: 2, ..packet(Op::Request, 5, 6) }, &[]);
    let (header, _) = guest.receive_one();
    assert_eq!((header.op, header.kind, header.src_cid), (op(Op::Reset), 2, HOST_CID));
    guest.send(Header { dst_cid: 9, ..packet(Op::Request, 5, 6) }, &[]);
    let (header, _) = guest.receive_one();
    assert_eq!((header.op, header.kind, header.src_cid), (op(Op::Reset), STREAM, 9));
    guest.send(Header { op: 77, ..packet(Op::Request, 5, 6) }, &[]);
    assert_eq!(guest.receive_ops(), [(op(Op::Reset), 0)]);
}

#[test]
fn lies_about_source_and_length_are_dropped() {
    let mut guest = guest();
    let lies = [
        Header { src_cid: 8, ..packet(Op::Request, 5, 6) },
        Header { len: 9, ..packet(Op::Data, 5, 6) },
        Header { len: u32::MAX, ..packet(Op::Data, 5, 6) },
    ];
    for lie in lies {
        guest.send_exactly(lie, b"12345678");
        assert_eq!(guest.receive(), [], "{lie:?}");
    }
    assert_eq!(guest.driver.used(TRANSMIT).len(), lies.len());
}

#[test]
fn a_client_that_talks_nonsense_is_hung_up_on() {
    let mut guest = guest();
    let mut client = UnixStream::connect(&guest.path).unwrap();
    client.write_all(b"HELO there\n").unwrap();
    guest.driver.run();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}
