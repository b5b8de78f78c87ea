//! Credit: who may send how much to whom (virtio 1.2, section 5.10.6.3). Pure arithmetic on wrapping
//! counters.

use crate::virtio::vsock::header::Header;

/// Our receive buffer for each connection, in bytes: what the guest may send before the host has taken any of
/// it.
pub const BUFFER_SIZE: u32 = 64 * 1024;

/// Both directions of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// The guest's buffer, in bytes, as it last said.
    guest_buffer: u32,
    /// Bytes that the guest has taken out of it.
    guest_taken: u32,
    /// Bytes that we have sent to the guest.
    sent: u32,
    /// Bytes that the host has taken out of our buffer.
    taken: u32,
    /// The value of `taken` that the guest was told last.
    told: u32,
}

impl Credit {
    /// Learns from a packet of the guest's.
    pub fn learn(&mut self, header: &Header) {
        self.guest_buffer = header.buf_alloc;
        self.guest_taken = header.fwd_cnt;
    }

    /// Bytes that may be sent to the guest now.
    pub fn available(&self) -> usize {
        let in_flight = self.sent.wrapping_sub(self.guest_taken);
        self.guest_buffer.saturating_sub(in_flight) as usize
    }

    /// `count` bytes were sent to the guest.
    pub fn sent(&mut self, count: u32) {
        self.sent = self.sent.wrapping_add(count);
    }

    /// The host has taken `count` bytes that the guest had sent.
    pub fn taken(&mut self, count: usize) {
        // At most BUFFER_SIZE at a time; the counter wraps.
        self.taken = self.taken.wrapping_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Whether so much was taken since the guest last heard of it that it should hear now.
    pub fn is_stale(&self) -> bool {
        self.taken.wrapping_sub(self.told) >= BUFFER_SIZE / 2
    }

    /// Writes our side into a packet for the guest.
    pub fn tell(&mut self, header: &mut Header) {
        header.buf_alloc = BUFFER_SIZE;
        header.fwd_cnt = self.taken;
        self.told = self.taken;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(buf_alloc: u32, fwd_cnt: u32) -> Header {
        Header { buf_alloc, fwd_cnt, ..Header::default() }
    }

    #[test]
    fn what_may_be_sent_follows_what_the_guest_took() {
        let mut credit = Credit::default();
        assert_eq!(credit.available(), 0);
        credit.learn(&guest(100, 0));
        credit.sent(100);
        assert_eq!(credit.available(), 0);
        credit.learn(&guest(100, 40));
        assert_eq!(credit.available(), 40);
        credit.learn(&guest(50, 40));
        assert_eq!(credit.available(), 0, "the guest shrank its buffer");
    }

    #[test]
    fn counters_wrap_and_lies_give_no_credit() {
        let mut credit = Credit { sent: u32::MAX - 9, guest_taken: u32::MAX - 9, ..Credit::default() };
        credit.learn(&guest(100, u32::MAX - 9));
        credit.sent(30);
        assert_eq!(credit.available(), 70);
        credit.learn(&guest(100, 20));
        assert_eq!(credit.available(), 100);
        credit.learn(&guest(100, 21));
        assert_eq!(credit.available(), 0, "took more than was sent");
    }

    #[test]
    fn the_guest_hears_when_half_of_the_buffer_was_taken() {
        let mut credit = Credit::default();
        credit.taken(BUFFER_SIZE as usize / 2 - 1);
        assert!(!credit.is_stale());
        credit.taken(1);
        assert!(credit.is_stale());
        let mut header = Header::default();
        credit.tell(&mut header);
        assert_eq!((header.buf_alloc, header.fwd_cnt), (BUFFER_SIZE, BUFFER_SIZE / 2));
        assert!(!credit.is_stale());
    }
}
