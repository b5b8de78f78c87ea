//! The ways in which a connection ends, by either side, in halves, or with the device.

use super::*;

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
fn a_second_request_on_a_connection_breaks_it() {
    let mut guest = guest();
    let mut server = guest.server();
    guest.send(packet(Op::Request, 80, 1000), &[]);
    assert_eq!(guest.receive_ops(), [(op(Op::Reset), 0)]);
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
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
