//! The vsock device between a guest's driver and host programs.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};

use proptest::prelude::*;

use super::*;
use crate::virtio::testing::Buffer::{Readable, Writable};
use crate::virtio::testing::{Driver, hostile};
use crate::virtio::vsock::header::{HEADER_BYTES, HEADER_SIZE, HOST_CID, Header, Op, STREAM};
use crate::virtio::vsock::muxer::MAX_CONNECTIONS;

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
    _directory: tempfile::TempDir,
}

fn guest_without_buffers() -> Guest {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("v.sock");
    let vsock = Vsock::new(&VsockConfig { guest_cid: CID, uds_path: path.clone() }).unwrap();
    Guest { driver: Driver::started(vsock), buffers: Vec::new(), path, _directory: directory }
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

    fn listen(&self, port: u32) -> UnixListener {
        let path = format!("{}_{port}", self.path.display());
        // Left by an earlier listener of the same test.
        let _ = std::fs::remove_file(&path);
        UnixListener::bind(path).unwrap()
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + index / 251) as u8).collect()
}

fn op(op: Op) -> u16 {
    op as u16
}

#[test]
fn tells_its_cid() {
    let mut guest = guest();
    assert_eq!((guest.driver.read32(0x100), guest.driver.read32(0x104)), (CID, 0));
}

#[test]
fn refuses_reserved_cids_and_impossible_paths() {
    let directory = tempfile::tempdir().unwrap();
    for guest_cid in [0, 1, 2, u32::MAX] {
        let config = VsockConfig { guest_cid, uds_path: directory.path().join("v") };
        assert!(matches!(Vsock::new(&config), Err(VsockError::Cid(cid)) if cid == guest_cid));
    }
    for path in [directory.path().join("absent/v"), directory.path().join("x".repeat(120))] {
        let error =
            Vsock::new(&VsockConfig { guest_cid: 3, uds_path: path.clone() }).unwrap_err().to_string();
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
    let vsock = Vsock::new(&VsockConfig { guest_cid: CID, uds_path: path.clone() }).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"CONNECT 52\n").unwrap();
    let driver = Driver::started(vsock);
    let mut guest = Guest { driver, buffers: Vec::new(), path, _directory: directory };
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
fn the_host_sends_no_more_than_the_guest_gave_credit_for() {
    let mut guest = guest();
    let mut client = UnixStream::connect(&guest.path).unwrap();
    client.write_all(b"CONNECT 52\n").unwrap();
    let port = guest.receive_one().0.src_port;
    guest.send(Header { buf_alloc: 10_000, ..packet(Op::Response, port, 52) }, &[]);
    let data = pattern(25_000);
    client.write_all(&data).unwrap();

    let mut got = Vec::new();
    let mut requests = 0;
    for fwd_cnt in [0, 10_000, 20_000] {
        let update = Header { buf_alloc: 10_000, fwd_cnt, ..packet(Op::CreditUpdate, port, 52) };
        guest.send(update, &[]);
        for (header, data) in guest.receive() {
            requests += u32::from(header.op == op(Op::CreditRequest));
            got.extend(data);
        }
        assert_eq!(got.len(), 25_000.min(fwd_cnt as usize + 10_000));
        // A guest that answers "no room" to the request is not asked again and again.
        guest.send(update, &[]);
        assert_eq!(guest.receive(), []);
    }
    assert_eq!(got, data);
    assert_eq!(requests, 2);
}

#[test]
fn without_guest_buffers_the_host_waits() {
    let mut guest = guest_without_buffers();
    guest.give_buffers(1);
    let (mut client, port) = guest.client();
    let data = pattern(60_000);
    client.write_all(&data).unwrap();
    guest.driver.run();
    assert_eq!(guest.driver.used(RECEIVE).len(), 1, "one buffer, one packet");
    let (_, address) = guest.buffers.remove(0);
    let mut got = guest.driver.get(address + HEADER_SIZE as u64, ROOM as usize);
    guest.give_buffers(3);
    got.extend(guest.receive_data(port, 52));
    assert_eq!(got, data);
}

#[test]
fn several_clients_share_scarce_buffers() {
    let mut guest = guest_without_buffers();
    guest.give_buffers(3);
    let mut clients: Vec<_> = (0..3).map(|_| guest.client()).collect();
    for (client, _) in &mut clients {
        client.write_all(&[1; 40_000]).unwrap();
    }
    let mut turns = Vec::new();
    while turns.len() < 30 {
        let packets = guest.receive();
        assert!(!packets.is_empty(), "stuck after {turns:?}");
        turns.extend(packets.iter().map(|(header, _)| header.src_port));
    }
    // The first buffers went to whoever came first; from then on they take turns.
    for round in turns[3..24].chunks(3) {
        for (_, port) in &clients {
            assert!(round.contains(port), "{turns:?}");
        }
    }
}

#[test]
fn data_for_a_slow_host_waits_within_the_credit_and_arrives_whole() {
    let mut guest = guest();
    let mut server = guest.server();
    let data = pattern(1_500_000);
    let (mut sent, mut taken, mut got) = (0, 0, Vec::<u8>::new());
    server.set_nonblocking(true).unwrap();
    let mut stalls = 0;
    while got.len() < data.len() {
        let credit = 64 * 1024 - (sent - taken);
        let count = credit.min(16_000).min(data.len() - sent);
        if count > 0 {
            guest.send(packet(Op::Data, 80, 1000), &data[sent..sent + count]);
            sent += count;
        } else {
            // The host wakes up only when the guest can send no more.
            stalls += 1;
            let mut part = vec![0; 1 << 20];
            while let Ok(count) = server.read(&mut part) {
                got.extend(&part[..count]);
            }
        }
        for (header, _) in guest.receive() {
            assert_eq!(header.op, op(Op::CreditUpdate));
            taken = header.fwd_cnt as usize;
        }
        assert!(stalls < 1000, "stuck at {} of {}", got.len(), data.len());
    }
    assert!(got == data, "the bytes differ");
    assert!(stalls > 1);
}

#[test]
fn a_guest_that_overruns_its_credit_is_reset() {
    let mut guest = guest();
    let _server = guest.server();
    let mut resets = 0;
    for _ in 0..40 {
        guest.send(packet(Op::Data, 80, 1000), &[0; 60_000]);
        resets += guest.receive_ops().iter().filter(|(which, _)| *which == op(Op::Reset)).count();
        if resets > 0 {
            return;
        }
    }
    panic!("the host took 2.4 MB without reading");
}

#[test]
fn credit_is_told_when_asked() {
    let mut guest = guest();
    let _server = guest.server();
    guest.send(packet(Op::Data, 80, 1000), b"12345");
    assert_eq!(guest.receive(), []);
    guest.send(packet(Op::CreditRequest, 80, 1000), &[]);
    let (header, _) = guest.receive_one();
    assert_eq!((header.op, header.buf_alloc, header.fwd_cnt), (op(Op::CreditUpdate), 64 * 1024, 5));
}

#[test]
fn a_guest_that_half_closes_still_hears_the_host() {
    let mut guest = guest();
    let mut server = guest.server();
    guest.send(packet(Op::Data, 80, 1000), b"request");
    guest.send(Header { flags: 2, ..packet(Op::Shutdown, 80, 1000) }, &[]);
    let mut request = String::new();
    server.read_to_string(&mut request).unwrap();
    assert_eq!(request, "request");
    server.write_all(b"reply").unwrap();
    drop(server);
    let packets = guest.receive();
    assert_eq!(packets[0].1, b"reply");
    assert_eq!((packets[1].0.op, packets[1].0.flags), (op(Op::Shutdown), 3));
    guest.send(Header { flags: 3, ..packet(Op::Shutdown, 80, 1000) }, &[]);
    assert_eq!(guest.receive_ops(), [(op(Op::Reset), 0)]);
    guest.send(packet(Op::CreditUpdate, 80, 1000), &[]);
    assert_eq!(guest.receive_ops(), [(op(Op::Reset), 0)], "the connection is gone");
}

#[test]
fn a_host_that_half_closes_still_hears_the_guest() {
    let mut guest = guest();
    let (mut client, port) = guest.client();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let packets = guest.receive();
    assert_eq!(packets[0].1, b"question");
    assert_eq!((packets[1].0.op, packets[1].0.flags), (op(Op::Shutdown), 2));
    guest.send(packet(Op::Data, port, 52), b"answer");
    guest.send(Header { flags: 3, ..packet(Op::Shutdown, port, 52) }, &[]);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
    assert_eq!(guest.receive_ops(), [(op(Op::Reset), 0)]);
}

#[test]
fn a_guest_that_receives_no_more_is_sent_no_more() {
    let mut guest = guest();
    let (mut client, port) = guest.client();
    guest.send(Header { flags: 1, ..packet(Op::Shutdown, port, 52) }, &[]);
    assert_eq!(client.write(b"lost").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(guest.receive(), []);
}

#[test]
fn data_for_a_host_that_left_is_swallowed_and_the_guest_told() {
    let mut guest = guest();
    let (client, port) = guest.client();
    drop(client);
    assert_eq!(guest.receive_ops(), [(op(Op::Shutdown), 3)]);
    guest.send(packet(Op::Data, port, 52), &[0; 50_000]);
    let (header, _) = guest.receive_one();
    assert_eq!((header.op, header.fwd_cnt), (op(Op::CreditUpdate), 50_000));
    guest.send(packet(Op::Reset, port, 52), &[]);
    assert_eq!(guest.receive(), []);
}

#[test]
fn a_reset_by_the_guest_closes_the_host_stream() {
    let mut guest = guest();
    let (mut client, port) = guest.client();
    guest.send(packet(Op::Reset, port, 52), &[]);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    let mut refused = UnixStream::connect(&guest.path).unwrap();
    refused.write_all(b"CONNECT 53\n").unwrap();
    let port = guest.receive_one().0.src_port;
    guest.send(packet(Op::Reset, port, 53), &[]);
    assert_eq!(refused.read(&mut [0]).unwrap(), 0, "nobody listens in the guest");
}

#[test]
fn a_client_that_leaves_before_the_answer_is_forgotten() {
    let mut guest = guest();
    let mut client = UnixStream::connect(&guest.path).unwrap();
    client.write_all(b"CONNECT 52\n").unwrap();
    let port = guest.receive_one().0.src_port;
    drop(client);
    assert_eq!(guest.receive_ops(), [(op(Op::Reset), 0)]);
    guest.send(packet(Op::Response, port, 52), &[]);
    assert_eq!(guest.receive_ops(), [(op(Op::Reset), 0)]);
}

#[test]
fn a_client_that_talks_nonsense_is_hung_up_on() {
    let mut guest = guest();
    let mut client = UnixStream::connect(&guest.path).unwrap();
    client.write_all(b"HELO there\n").unwrap();
    guest.driver.run();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_second_request_on_a_connection_breaks_it() {
    let mut guest = guest();
    let mut server = guest.server();
    guest.send(packet(Op::Request, 80, 1000), &[]);
    assert_eq!(guest.receive_ops(), [(op(Op::Reset), 0)]);
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
}

#[test]
fn connections_are_limited_on_both_sides() {
    let mut guest = guest();
    let mut clients: Vec<_> = (0..MAX_CONNECTIONS)
        .map(|_| {
            let client = UnixStream::connect(&guest.path).unwrap();
            guest.driver.run();
            client
        })
        .collect();
    let mut one_more = UnixStream::connect(&guest.path).unwrap();
    guest.driver.run();
    assert_eq!(one_more.read(&mut [0]).unwrap(), 0);
    let _listener = guest.listen(80);
    guest.send(packet(Op::Request, 80, 1000), &[]);
    assert_eq!(guest.receive_ops(), [(op(Op::Reset), 0)]);
    clients.pop();
    guest.driver.run();
    guest.send(packet(Op::Request, 80, 1000), &[]);
    assert_eq!(guest.receive_ops(), [(op(Op::Response), 0)]);
}

#[test]
fn a_flood_of_bad_packets_waits_for_buffers_and_is_answered_in_full() {
    let mut guest = guest_without_buffers();
    for port in 0..500 {
        let place = guest.driver.put(&packet(Op::Data, port, 1).to_bytes());
        guest.driver.queue(TRANSMIT, &[Readable(place, 44)]);
        if port % 100 == 99 {
            guest.driver.notify(TRANSMIT);
        }
    }
    assert_eq!(guest.driver.used(TRANSMIT).len(), 256, "the rest waits");
    guest.give_buffers(64);
    let mut resets = 0;
    loop {
        let packets = guest.receive();
        if packets.is_empty() {
            break;
        }
        resets += packets.len();
    }
    assert_eq!(resets, 500);
    assert_eq!(guest.driver.used(TRANSMIT).len(), 244);
}

#[test]
fn a_device_reset_closes_everything_and_starts_afresh() {
    let mut guest = guest();
    let (mut client, port) = guest.client();
    let mut waiting = UnixStream::connect(&guest.path).unwrap();
    guest.driver.run();
    guest.driver.write32(0x70, 0);
    guest.driver.run();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert_eq!(waiting.read(&mut [0]).unwrap(), 0);

    guest.driver.start(1 << 32);
    guest.buffers.clear();
    guest.give_buffers(16);
    guest.send(packet(Op::Data, port, 52), b"x");
    assert_eq!(guest.receive_ops(), [(op(Op::Reset), 0)], "the old connection is not known");
    let (mut client, port) = guest.client();
    guest.send(packet(Op::Data, port, 52), b"again");
    client.read_exact(&mut [0; 5]).unwrap();
}

#[test]
fn reset_and_restart_before_the_event_loop_looks_is_safe() {
    let mut guest = guest();
    let (mut client, _) = guest.client();
    guest.driver.write32(0x70, 0);
    guest.driver.negotiate(1 << 32);
    guest.driver.set_up_queues();
    guest.driver.write32(0x70, 0xf);
    guest.driver.run();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    guest.buffers.clear();
    guest.give_buffers(4);
    guest.client();
}

#[test]
fn the_socket_disappears_with_the_device() {
    let Guest { driver, path, _directory, .. } = guest();
    assert!(path.exists());
    drop(driver);
    assert!(!path.exists());
}

fn any_packet() -> impl Strategy<Value = (Header, usize)> {
    let port = prop_oneof![Just(80), Just(1 << 30), 0u32..4];
    let numbers = (0u16..9, 0u32..4, prop_oneof![Just(GUEST_BUFFER), any::<u32>()], any::<u32>());
    (numbers, port, 0u32..2, 0usize..3000).prop_map(
        |((op, flags, buf_alloc, fwd_cnt), host, guest, length)| {
            let header = packet(Op::Reset, host, 52 + guest);
            (Header { op, flags, buf_alloc, fwd_cnt, len: length as u32, ..header }, length)
        },
    )
}

proptest! {
    #[test]
    fn survives_hostile_chains_on_every_queue(requests in hostile::requests(), queue in 0usize..3) {
        let mut guest = guest_without_buffers();
        let mut client = UnixStream::connect(&guest.path).unwrap();
        client.write_all(b"CONNECT 52\n").unwrap();
        hostile::run(&mut guest.driver, queue, &requests);
        guest.driver.start(1 << 32);
        prop_assert_eq!(guest.driver.read32(0x70), 0xf);
    }

    #[test]
    fn survives_any_sequence_of_packets(packets in prop::collection::vec(any_packet(), 1..40)) {
        let mut guest = guest();
        let listener = guest.listen(80);
        let mut client = UnixStream::connect(&guest.path).unwrap();
        client.write_all(b"CONNECT 52\nand some data").unwrap();
        for (header, length) in packets {
            guest.send_exactly(header, &vec![b'x'; length]);
            guest.receive();
        }
        drop(listener);
        drop(client);
        guest.receive();
    }
}
