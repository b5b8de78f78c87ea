//! Credit, scarce buffers, slow hosts and limits: nothing is lost and nothing grows without bound.

use super::*;

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
fn connections_are_limited_on_both_sides() {
    raise_descriptor_limit();
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
