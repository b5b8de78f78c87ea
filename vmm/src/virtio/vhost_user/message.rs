//! The wire format: a header of three words, a body, at times descriptors beside it. All numbers are little endian, as the
//! host's.

use crate::memory::layout::RamRange;

/// Bytes of a header: request, flags, size of the body.
pub(super) const HEADER: usize = 12;
/// Most bytes in a body that this side sends or takes.
pub(super) const MAX_BODY: usize = 512;
/// Most regions of memory in one table (VHOST_MEMORY_BASELINE_NREGIONS).
pub(super) const MAX_REGIONS: usize = 8;

/// Header flags: the version, "this is a reply", "reply even if there is nothing to say".
const VERSION: u32 = 1;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;

/// The feature bit that says the backend has protocol features.
pub(super) const PROTOCOL_FEATURES: u64 = 1 << 30;

/// Protocol features that are used here.
pub(super) mod protocol {
    /// Several queues.
    pub(in super::super) const MQ: u64 = 1 << 0;
    /// Every request can be acknowledged.
    pub(in super::super) const REPLY_ACK: u64 = 1 << 3;
    /// The backend has the config space.
    pub(in super::super) const CONFIG: u64 = 1 << 9;
}

/// What this side asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are named as in the specification")]
pub enum Request {
    GetFeatures = 1,
    SetFeatures = 2,
    SetOwner = 3,
    SetMemTable = 5,
    SetVringNum = 8,
    SetVringAddr = 9,
    SetVringBase = 10,
    GetVringBase = 11,
    SetVringKick = 12,
    SetVringCall = 13,
    GetProtocolFeatures = 15,
    SetProtocolFeatures = 16,
    GetQueueNum = 17,
    SetVringEnable = 18,
    GetConfig = 24,
}

/// A message with `body`, which asks for an acknowledgement if `acknowledge`.
pub(super) fn message(request: Request, acknowledge: bool, body: &[u8]) -> Vec<u8> {
    let flags = VERSION | if acknowledge { NEED_REPLY } else { 0 };
    let size = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let header = [request as u32, flags, size].map(u32::to_le_bytes).concat();
    [&header, body].concat()
}

/// The length of the body behind the header of a reply to `request`; `None` if it is no such header.
pub(super) fn reply_len(header: [u8; HEADER], request: Request) -> Option<usize> {
    let (words, _) = header.as_chunks::<4>();
    let [number, flags, size] = *words else { return None };
    let is_reply = u32::from_le_bytes(flags) & !NEED_REPLY == VERSION | REPLY;
    let size = usize::try_from(u32::from_le_bytes(size)).ok()?;
    (u32::from_le_bytes(number) == request as u32 && is_reply && size <= MAX_BODY).then_some(size)
}

/// A body of one or more 64-bit numbers.
pub(super) fn longs<const N: usize>(values: [u64; N]) -> Vec<u8> {
    values.map(u64::to_le_bytes).concat()
}

/// A body that says `value` of queue `index`.
pub(super) fn queue_state(index: u32, value: u32) -> Vec<u8> {
    [index, value].map(u32::to_le_bytes).concat()
}

/// Where the parts of queue `index` are, in guest physical addresses (see [`memory_table`]).
pub(super) fn queue_addresses(index: u32, descriptors: u64, used: u64, available: u64) -> Vec<u8> {
    const NO_LOG: u64 = 0;
    [queue_state(index, 0), longs([descriptors, used, available, NO_LOG])].concat()
}

/// The memory table: ranges of guest physical addresses, each with the place in its file.
///
/// "User addresses", in which queues are described, are whatever this side says. Here they are the guest's, so that the
/// backend learns nothing about addresses in this process.
pub(super) fn memory_table(regions: &[(RamRange, u64)]) -> Vec<u8> {
    let count = u32::try_from(regions.len()).unwrap_or(u32::MAX);
    let mut body = queue_state(count, 0);
    for (range, file_offset) in regions {
        body.extend(longs([range.base, range.len, range.base, *file_offset]));
    }
    body
}

/// A request for the first `len` bytes of the config space.
pub(super) fn config_request(len: usize) -> Vec<u8> {
    let len32 = u32::try_from(len).unwrap_or(u32::MAX);
    let mut body = [0, len32, 0].map(u32::to_le_bytes).concat();
    body.resize(body.len() + len, 0);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reply_to_the_request_counts() {
        let header = |number: u32, flags: u32, size: u32| -> [u8; HEADER] {
            [number, flags, size].map(u32::to_le_bytes).concat().try_into().unwrap()
        };
        let cases = [
            (header(1, 5, 8), Some(8)),
            (header(1, 0xd, 0), Some(0)),
            (header(2, 5, 8), None),
            (header(1, 1, 8), None),
            (header(1, 6, 8), None),
            (header(1, 5, 513), None),
            (header(1, 5, u32::MAX), None),
        ];
        for (header, wanted) in cases {
            assert_eq!(reply_len(header, Request::GetFeatures), wanted, "{header:?}");
        }
    }

    #[test]
    fn a_table_has_each_range_and_where_it_is_in_its_file() {
        let low = RamRange { base: 0, len: 0x1000 };
        let high = RamRange { base: 0x1_0000_0000, len: 0x2000 };
        let body = memory_table(&[(low, 0), (high, 0x1000)]);
        let (words, rest) = body.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        assert_eq!(words, [2, 0, 0x1000, 0, 0, 0x1_0000_0000, 0x2000, 0x1_0000_0000, 0x1000]);
        assert!(rest.is_empty());
    }
}
