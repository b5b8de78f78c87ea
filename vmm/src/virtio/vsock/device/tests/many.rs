//! Many connections at once.

use super::*;

const CONNECTIONS: u32 = 1000;

#[test]
fn a_thousand_connections_half_from_each_side_all_work() {
    raise_descriptor_limit();
    let mut guest = guest_without_buffers();
    guest.give_buffers(QUEUE_SIZES[RECEIVE].into());
    let mut streams: Vec<(u32, u32, UnixStream)> = Vec::new();
    let listener = guest.listen(80);
    for guest_port in 0..CONNECTIONS / 2 {
        let (client, host) = guest.client();
        streams.push((host, 52, client));
        guest.send(packet(Op::Request, 80, 1000 + guest_port), &[]);
        assert_eq!(guest.receive_one().0.op, op(Op::Response));
        streams.push((80, 1000 + guest_port, listener.accept().unwrap().0));
    }
    assert_eq!(guest.count("conns_added"), u64::from(CONNECTIONS));

    for (index, (host, port, stream)) in streams.iter_mut().enumerate() {
        stream.write_all(&(index as u32).to_le_bytes()).unwrap();
        guest.send(packet(Op::Data, *host, *port), &(!(index as u32)).to_le_bytes());
    }
    let mut heard = std::collections::HashMap::new();
    loop {
        let packets = guest.receive();
        if packets.is_empty() {
            break;
        }
        for (header, data) in packets {
            assert_eq!(header.op, op(Op::Data));
            assert_eq!(heard.insert((header.src_port, header.dst_port), data), None);
        }
    }
    for (index, (host, port, stream)) in streams.iter_mut().enumerate() {
        assert_eq!(heard[&(*host, *port)], (index as u32).to_le_bytes(), "connection {index}");
        let mut data = [0; 4];
        stream.read_exact(&mut data).unwrap();
        assert_eq!(u32::from_le_bytes(data), !(index as u32), "connection {index}");
    }

    // All of them end, and there is room for as many again.
    for (host, port, _) in &streams {
        guest.send(packet(Op::Reset, *host, *port), &[]);
    }
    guest.driver.run();
    assert_eq!(guest.count("conns_removed"), u64::from(CONNECTIONS));
    assert_eq!((guest.count("conns_killed"), guest.count("conns_refused")), (0, 0));
    assert_eq!((guest.count("tx_bytes_count"), guest.count("rx_bytes_count")), (4000, 4000));
    guest.client();
}
