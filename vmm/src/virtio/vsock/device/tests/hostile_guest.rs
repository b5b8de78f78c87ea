//! Property tests: a hostile guest.

use proptest::prelude::*;

use super::*;

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
