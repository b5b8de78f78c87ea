//! A guest that goes on from a snapshot: its connections are gone and it hears of that, before any new one is made.

use super::*;

/// Bytes of an event.
const EVENT: u32 = 4;

impl Guest {
    /// A buffer for events; returns its head and address.
    fn give_event_buffer(&mut self) -> (u16, u64) {
        let address = self.driver.put(&[0xff; EVENT as usize]);
        (self.driver.queue(EVENTS, &[Writable(address, EVENT)]), address)
    }

    /// The same guest, as a snapshot has it, on a new device with a socket of its own.
    fn restored(self) -> Guest {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("clone.sock");
        let device = Arc::new(Mutex::new(Vsock::new(&VsockConfig::new(CID, &path)).unwrap()));
        let driver = self.driver.restored_on(device.clone());
        Guest { driver, path, device, _directory: directory, buffers: self.buffers }
    }
}

#[test]
fn the_guest_is_told_and_new_connections_wait_until_it_has_heard() {
    let mut guest = guest();
    let (mut old_client, old_port) = guest.client();
    let (head, address) = guest.give_event_buffer();
    guest.give_event_buffer();
    let mut guest = guest.restored();

    let mut client = UnixStream::connect(&guest.path).unwrap();
    client.write_all(b"CONNECT 52\n").unwrap();
    guest.driver.run();
    assert_eq!(guest.driver.used(EVENTS), [(head, EVENT)]);
    assert_eq!(guest.driver.get(address, 4), [0; 4]);
    guest.send(packet(Op::Data, old_port, 52), b"into the void");
    assert_eq!(guest.receive(), [], "the guest would take a new connection for an old one");
    guest.driver.notify(EVENTS);
    assert_eq!(guest.receive(), [], "it has not given the buffer back");

    guest.give_event_buffer();
    guest.driver.notify(EVENTS);
    let packets = guest.receive();
    let ops: Vec<_> = packets.iter().map(|(header, _)| header.op).collect();
    assert!(ops.contains(&op(Op::Reset)) && ops.contains(&op(Op::Request)), "{ops:?}");
    assert_eq!(guest.driver.used(EVENTS), [], "it is told once");
    let request = packets.iter().find(|(header, _)| header.op == op(Op::Request)).unwrap();
    assert_ne!(request.0.src_port, old_port, "no connection has the name of an old one");
    guest.send(packet(Op::Response, request.0.src_port, 52), &[]);
    let mut answer = [0; 3];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"OK ");
    // The old machine's device was dropped with it; until then its client had heard nothing of the clone.
    assert_eq!(old_client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_device_that_was_saved_goes_on_with_its_connections() {
    let mut guest = guest();
    let (mut client, port) = guest.client();
    let before = guest.driver.transport.save();
    guest.send(packet(Op::Data, port, 52), b"still here");
    let mut data = [0; 10];
    client.read_exact(&mut data).unwrap();
    assert_eq!(&data, b"still here");
    client.write_all(b"and back").unwrap();
    assert_eq!(guest.receive_one().1, b"and back");
    let after = guest.driver.transport.save();
    assert_ne!(format!("{before:?}"), format!("{after:?}"), "the queues have moved on");
}

#[test]
fn a_guest_without_event_buffers_is_not_kept_waiting_and_told_later() {
    let mut guest = guest().restored();
    let mut client = UnixStream::connect(&guest.path).unwrap();
    client.write_all(b"CONNECT 52\n").unwrap();
    assert_eq!(guest.receive_ops(), [(op(Op::Request), 0)]);
    let (head, _) = guest.give_event_buffer();
    guest.driver.notify(EVENTS);
    assert_eq!(guest.driver.used(EVENTS), [(head, EVENT)]);
}

#[test]
fn event_buffers_that_are_too_small_come_back_empty() {
    let mut guest = guest();
    let address = guest.driver.allocate(16);
    let small = guest.driver.queue(EVENTS, &[Writable(address, 3)]);
    let wrong = guest.driver.queue(EVENTS, &[Readable(address, 4)]);
    let (good, _) = guest.give_event_buffer();
    let mut guest = guest.restored();
    guest.driver.run();
    assert_eq!(guest.driver.used(EVENTS), [(small, 0), (wrong, 0), (good, EVENT)]);
}

proptest::proptest! {
    #[test]
    fn survives_hostile_event_buffers(requests in hostile::requests(), more in hostile::requests()) {
        let mut guest = guest().restored();
        hostile::run(&mut guest.driver, EVENTS, &requests);
        hostile::run(&mut guest.driver, EVENTS, &more);
        guest.driver.start(1 << 32);
        proptest::prop_assert_eq!(guest.driver.read32(0x70), 0xf);
        guest.buffers.clear();
        guest.give_buffers(4);
        guest.client();
    }
}

#[test]
fn a_reset_by_a_new_driver_ends_the_wait() {
    let mut guest = guest();
    guest.give_event_buffer();
    let mut guest = guest.restored();
    guest.driver.run();
    guest.driver.start(1 << 32);
    guest.buffers.clear();
    guest.give_buffers(4);
    let mut client = UnixStream::connect(&guest.path).unwrap();
    client.write_all(b"CONNECT 52\n").unwrap();
    assert_eq!(guest.receive_ops(), [(op(Op::Request), 0)]);
}

#[test]
fn a_state_that_is_not_ours_is_refused_and_a_bad_port_is_put_right() {
    let guest = guest();
    let mut device = guest.device.lock().unwrap();
    for bad in [serde_json::json!(null), serde_json::json!({}), serde_json::json!({"next_host_port": -1})] {
        assert!(matches!(device.restore(&bad), Err(RestoreError::Form(_))), "{bad}");
    }
    device.restore(&serde_json::json!({"next_host_port": 80})).unwrap();
    assert_eq!(device.save(), serde_json::json!({"next_host_port": 1u32 << 30}));
}
