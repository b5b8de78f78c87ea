//! Back-pressure in both directions, under any schedule: nothing is lost, doubled or out of order, nobody sends more than
//! he may, and what waits goes on.

use proptest::prelude::*;

use super::*;

/// One side does something.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The host writes up to so many bytes, as far as its socket takes them.
    HostWrites(usize),
    /// The host reads up to so many.
    HostReads(usize),
    /// The guest sends up to so many, as far as it has credit.
    GuestSends(usize),
    /// The guest takes so many of the bytes that it has received, and says so.
    GuestTakes(usize),
    /// The guest asks for our credit.
    GuestAsks,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0usize..200_000).prop_map(Step::HostWrites),
        (0usize..200_000).prop_map(Step::HostReads),
        (0usize..70_000).prop_map(Step::GuestSends),
        (0usize..70_000).prop_map(Step::GuestTakes),
        Just(Step::GuestAsks),
    ]
}

/// Both ends of one connection and what has gone through it.
struct Ends {
    guest: Guest,
    host: UnixStream,
    /// The guest's receive buffer in bytes.
    buffer: u32,
    /// Of the host's bytes: written, arrived in the guest, taken there.
    to_guest: [usize; 3],
    /// Of the guest's bytes: sent, read by the host.
    to_host: [usize; 2],
    /// Our buffer and how much was taken out of it, as the guest last heard.
    credit: (u32, u32),
}

impl Ends {
    fn new(buffer: u32) -> Self {
        let mut guest = guest();
        let listener = guest.listen(80);
        guest.send(Header { buf_alloc: buffer, ..packet(Op::Request, 80, 1000) }, &[]);
        let (response, _) = guest.receive_one();
        let host = listener.accept().unwrap().0;
        host.set_nonblocking(true).unwrap();
        let credit = (response.buf_alloc, response.fwd_cnt);
        Self { guest, host, buffer, to_guest: [0; 3], to_host: [0; 2], credit }
    }

    fn send(&mut self, what: Op, data: &[u8]) {
        let taken = self.to_guest[2] as u32;
        self.guest.send(Header { buf_alloc: self.buffer, fwd_cnt: taken, ..packet(what, 80, 1000) }, data);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::HostWrites(count) => {
                let data: Vec<u8> = (self.to_guest[0]..self.to_guest[0] + count).map(byte).collect();
                self.to_guest[0] += self.host.write(&data).unwrap_or(0);
            }
            Step::HostReads(count) => {
                let mut data = vec![0; count];
                let read = self.host.read(&mut data).unwrap_or(0);
                for &got in &data[..read] {
                    assert_eq!(got, byte(self.to_host[1]), "byte {} for the host", self.to_host[1]);
                    self.to_host[1] += 1;
                }
            }
            Step::GuestSends(count) => {
                let in_flight = self.to_host[0] - self.credit.1 as usize;
                let count = count.min(self.credit.0 as usize - in_flight);
                let data: Vec<u8> = (self.to_host[0]..self.to_host[0] + count).map(byte).collect();
                self.to_host[0] += count;
                self.send(Op::Data, &data);
            }
            Step::GuestTakes(count) => {
                self.to_guest[2] = self.to_guest[1].min(self.to_guest[2] + count);
                self.send(Op::CreditUpdate, &[]);
            }
            Step::GuestAsks => self.send(Op::CreditRequest, &[]),
        }
        self.hear();
    }

    /// What the device says to the guest, until it has no more to say.
    fn hear(&mut self) {
        loop {
            let packets = self.guest.receive();
            if packets.is_empty() {
                return;
            }
            let mut asked = false;
            for (header, data) in packets {
                self.credit = (header.buf_alloc, header.fwd_cnt);
                asked |= header.op == op(Op::CreditRequest);
                assert!(header.op >= op(Op::Data), "the connection stays: {header:?}");
                for got in data {
                    assert_eq!(got, byte(self.to_guest[1]), "byte {} for the guest", self.to_guest[1]);
                    self.to_guest[1] += 1;
                }
            }
            assert!(
                self.to_guest[1] - self.to_guest[2] <= self.buffer as usize,
                "more than the guest has room for"
            );
            if asked {
                self.send(Op::CreditUpdate, &[]);
            }
        }
    }
}

/// The byte at a place of the stream.
fn byte(index: usize) -> u8 {
    (index * 7 + index / 251) as u8
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn any_schedule_gets_everything_through(
        buffer in prop_oneof![500u32..5000, Just(GUEST_BUFFER)],
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut ends = Ends::new(buffer);
        for step in steps {
            ends.step(step);
        }
        // From here on both sides take what there is, and nobody needs to be told more than once.
        let limit = ends.to_guest[0] / buffer as usize + 100;
        for _ in 0..limit {
            ends.step(Step::HostReads(1 << 20));
            ends.step(Step::GuestTakes(1 << 20));
        }
        prop_assert_eq!(ends.to_guest, [ends.to_guest[0]; 3]);
        prop_assert_eq!(ends.to_host, [ends.to_host[0]; 2]);
        // And the connection is as good as new.
        ends.step(Step::GuestSends(100));
        ends.step(Step::HostReads(100));
        prop_assert_eq!(ends.to_host[0], ends.to_host[1]);
    }
}
