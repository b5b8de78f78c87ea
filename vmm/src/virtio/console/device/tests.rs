//! The console between a guest's driver and a pair of sockets that stands for the host's side.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use event_manager::EventSet;

use super::*;
use crate::console::end::watch;
use crate::virtio::console::receive::MAX_PENDING;
use crate::virtio::testing::Buffer::{Readable, Writable};
use crate::virtio::testing::{Driver, MEMORY_SIZE, hostile};

/// One end of a socket pair as the host's side.
#[derive(Debug)]
struct Line {
    socket: UnixStream,
    size: Arc<Mutex<Option<Size>>>,
    escaped: Arc<AtomicBool>,
    watched: bool,
}

impl HostEnd for Line {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.socket.read(bytes)
    }
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }
    fn on_event(&mut self, _token: u32) {}
    fn size(&self) -> Option<Size> {
        *self.size.lock().unwrap()
    }
    fn wants_end(&self) -> bool {
        self.escaped.load(Ordering::SeqCst)
    }
    fn take_watches(&mut self) -> Vec<Watch> {
        let first = !std::mem::replace(&mut self.watched, true);
        first.then(|| watch(&self.socket, 0, EventSet::IN | EventSet::OUT)).flatten().into_iter().collect()
    }
}

struct Guest {
    driver: Driver,
    device: Arc<Mutex<Console>>,
    /// The person at the terminal.
    host: UnixStream,
    size: Arc<Mutex<Option<Size>>>,
    escaped: Arc<AtomicBool>,
}

fn guest() -> Guest {
    let (host, ours) = UnixStream::pair().unwrap();
    host.set_nonblocking(true).unwrap();
    ours.set_nonblocking(true).unwrap();
    let size = Arc::new(Mutex::new(Some(Size { columns: 80, rows: 25 })));
    let escaped = Arc::new(AtomicBool::new(false));
    let line = Line { socket: ours, size: size.clone(), escaped: escaped.clone(), watched: false };
    let device = Arc::new(Mutex::new(Console::new(Box::new(line))));
    Guest { driver: Driver::started_sharing(device.clone()), device, host, size, escaped }
}

impl Guest {
    fn say(&mut self, text: &[u8]) -> u16 {
        let address = self.driver.put(text);
        let head = self.driver.queue(TRANSMIT, &[Readable(address, text.len() as u32)]);
        self.driver.notify(TRANSMIT);
        head
    }

    fn heard(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        let count = self.host.read(&mut bytes).unwrap_or(0);
        bytes.truncate(count);
        self.driver.run();
        bytes
    }

    fn type_in(&mut self, text: &[u8]) {
        self.host.write_all(text).unwrap();
        self.driver.run();
    }

    fn give_buffers(&mut self, count: usize, size: u32) -> Vec<u64> {
        let buffers = (0..count)
            .map(|_| {
                let address = self.driver.allocate(size);
                self.driver.queue(RECEIVE, &[Writable(address, size)]);
                address
            })
            .collect();
        self.driver.notify(RECEIVE);
        buffers
    }

    fn count(&self, name: &str) -> u64 {
        let counters = self.device.lock().unwrap().counters();
        counters.iter().find(|counter| counter.name == name).unwrap().value
    }
}

#[test]
fn both_directions_work() {
    let mut guest = guest();
    let head = guest.say(b"login: ");
    assert_eq!((guest.driver.used(TRANSMIT), guest.heard()), (vec![(head, 0)], b"login: ".to_vec()));
    let buffers = guest.give_buffers(2, 4);
    guest.type_in(b"root\r");
    assert_eq!(guest.driver.used(RECEIVE), [(0, 4), (1, 1)]);
    assert_eq!(
        (guest.driver.get(buffers[0], 4), guest.driver.get(buffers[1], 1)),
        (b"root".to_vec(), b"\r".to_vec())
    );
    assert_eq!((guest.count("write_count"), guest.count("read_count")), (7, 5));
}

#[test]
fn input_waits_for_buffers_and_is_bounded() {
    let mut guest = guest();
    guest.type_in(&[b'x'; 3 * MAX_PENDING]);
    let pending = guest.device.lock().unwrap().input.pending.len();
    assert_eq!(pending, MAX_PENDING);
    guest.give_buffers(4, MAX_PENDING as u32);
    let lengths: Vec<u32> = guest.driver.used(RECEIVE).iter().map(|(_, length)| *length).collect();
    assert_eq!(lengths.iter().sum::<u32>() as usize, 3 * MAX_PENDING, "{lengths:?}");
}

#[test]
fn output_waits_in_the_queue_while_the_host_has_no_room_and_none_is_lost() {
    let mut guest = guest();
    let text: Vec<u8> = (0..600_000u32).map(|index| (index % 251) as u8).collect();
    let head = guest.say(&text);
    assert_eq!(guest.driver.used(TRANSMIT), [], "no room for all of it");
    let behind = guest.say(b"the end");
    let position = guest.device.lock().unwrap().positions()[TRANSMIT];
    assert_eq!(position, QueuePosition { next_available: 0, next_used: 0 });
    let mut heard = Vec::new();
    while heard.len() < text.len() + 7 {
        let more = guest.heard();
        assert!(!more.is_empty(), "{} bytes came", heard.len());
        heard.extend(more);
    }
    assert!(heard[..text.len()] == text && heard.ends_with(b"the end"));
    assert_eq!(guest.driver.used(TRANSMIT), [(head, 0), (behind, 0)]);
}

#[test]
fn output_that_nobody_can_get_does_not_stop_the_guest() {
    let mut guest = guest();
    guest.host.shutdown(std::net::Shutdown::Both).unwrap();
    let heads = [guest.say(b"hello?"), guest.say(b"hello!")];
    assert_eq!(guest.driver.used(TRANSMIT), heads.map(|head| (head, 0)));
    assert_eq!(guest.count("missed_write_count"), 12);
}

#[test]
fn an_endless_chain_of_output_is_written_in_turns() {
    let mut guest = guest();
    let address = guest.driver.allocate(0x1000);
    let pieces = vec![Readable(address, 0x1000); 60];
    guest.driver.queue(TRANSMIT, &pieces);
    guest.driver.write32(0x50, TRANSMIT as u32);
    guest.driver.events.run_with_timeout(0).unwrap();
    assert!(guest.count("write_count") <= 64 << 10);
    guest.driver.run();
    let mut heard = 0;
    while heard < 60 * 0x1000 {
        heard += guest.heard().len();
    }
    assert_eq!(guest.driver.used(TRANSMIT).len(), 1);
}

#[test]
fn the_guest_hears_of_another_size() {
    let mut guest = guest();
    assert_eq!((guest.driver.read32(0x100), guest.driver.read32(0x60)), (25 << 16 | 80, 2), "at the start");
    guest.driver.write32(0x64, 2);
    *guest.size.lock().unwrap() = Some(Size { columns: 132, rows: 43 });
    guest.type_in(b"");
    guest.device.lock().unwrap().on_host_event(9);
    assert_eq!((guest.driver.read32(0x100), guest.driver.read32(0x60)), (43 << 16 | 132, 2));
    guest.driver.write32(0x64, 2);
    guest.device.lock().unwrap().set_size(Size { columns: 132, rows: 43 });
    assert_eq!(guest.driver.read32(0x60), 0, "it is the same");
}

#[test]
fn typing_the_escape_ends_the_guest_even_if_it_reads_nothing() {
    let mut guest = guest();
    let ended = Arc::new(AtomicBool::new(false));
    let seen = ended.clone();
    guest.device.lock().unwrap().on_escape(Box::new(move || seen.store(true, Ordering::SeqCst)));
    guest.type_in(b"abc");
    assert!(!ended.load(Ordering::SeqCst));
    guest.escaped.store(true, Ordering::SeqCst);
    guest.type_in(b"x");
    assert!(ended.load(Ordering::SeqCst));
}

#[test]
fn useless_buffers_come_back_and_no_input_is_lost() {
    let mut guest = guest();
    let good = guest.driver.allocate(8);
    guest.driver.queue(RECEIVE, &[Writable(MEMORY_SIZE - 1, 8)]);
    guest.driver.queue(RECEIVE, &[Readable(good, 8)]);
    guest.driver.queue(RECEIVE, &[Writable(good, 8)]);
    guest.driver.notify(RECEIVE);
    guest.type_in(b"hello");
    assert_eq!(guest.driver.used(RECEIVE), [(0, 0), (1, 0), (2, 5)]);
    assert_eq!(guest.driver.get(good, 5), b"hello");
}

#[test]
fn a_snapshot_keeps_what_is_under_way_in_both_directions() {
    let mut before = guest();
    before.type_in(b"typed");
    let text: Vec<u8> = (0..600_000u32).map(|index| (index % 251) as u8).collect();
    before.say(&text);
    let saved = before.device.lock().unwrap().save();
    let mut heard = Vec::new();
    while let Ok(count @ 1..) = before.host.read(&mut [0; 1 << 20]) {
        heard.extend_from_slice(&text[heard.len()..heard.len() + count]);
    }

    let mut after = guest();
    after.device.lock().unwrap().restore(&saved).unwrap();
    assert_eq!(after.device.lock().unwrap().save(), saved);
    let buffer = after.give_buffers(1, 16)[0];
    assert_eq!((after.driver.used(RECEIVE), after.driver.get(buffer, 5)), (vec![(0, 5)], b"typed".to_vec()));
    after.say(&text);
    while heard.len() < text.len() {
        heard.extend(after.heard());
    }
    assert!(heard == text, "not one byte twice, none left out");
}

#[test]
fn a_restored_console_has_the_size_of_its_new_terminal() {
    let saved = guest().device.lock().unwrap().save();
    let mut after = guest();
    let here = Size { columns: 200, rows: 50 };
    after.device.lock().unwrap().set_size(here);
    after.driver.write32(0x64, 3);
    after.device.lock().unwrap().restore(&saved).unwrap();
    assert_eq!(after.device.lock().unwrap().size(), here);
    assert_eq!(after.driver.read32(0x60), 2, "and the guest, which knows the old one, is told");
}

#[test]
fn state_that_cannot_be_is_refused() {
    let guest = guest();
    let mut console = guest.device.lock().unwrap();
    let size = Size::default();
    let cases = [
        serde_json::json!({"pending": vec![0; MAX_PENDING + 1], "written": 0, "size": size}),
        serde_json::json!({"pending": [256], "written": 0, "size": size}),
        serde_json::json!({"pending": [], "written": -1, "size": size}),
        serde_json::Value::Null,
    ];
    for state in cases {
        console.restore(&state).unwrap_err();
    }
    let far = serde_json::json!({"pending": [], "written": usize::MAX, "size": size});
    console.restore(&far).unwrap();
}

proptest::proptest! {
    #[test]
    fn hostile_chains_come_back(requests in hostile::requests(), queue in 0usize..2) {
        let mut guest = guest();
        guest.type_in(b"some input");
        let mut returned = hostile::run(&mut guest.driver, queue, &requests);
        // Buffers that are not needed stay, and long output waits for a reader.
        for _ in 0..50 {
            guest.heard();
            returned += guest.driver.used(queue).len();
        }
        let broken = guest.driver.read32(0x70) & 0x40 != 0;
        let waits = queue == RECEIVE || guest.count("write_count") > 100_000;
        proptest::prop_assert!(broken || waits || returned == requests.1.len(), "{} came back", returned);
        guest.driver.start(1 << 32);
        proptest::prop_assert_eq!(guest.driver.read32(0x70), 0xf);
    }
}
