//! Parsing a block request (virtio 1.2, section 5.2.6): a header of 16 bytes, data, and one status byte.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};

use crate::memory::GuestMemory;
use crate::virtio::block::config::{
    MAX_DISCARD_RANGES, MAX_DISCARD_SECTORS, MAX_ZEROES_RANGES, MAX_ZEROES_SECTORS, SECTOR_SIZE,
};
use crate::virtio::chain::{Chain, Defect};
use crate::virtio::segments::{Segments, SegmentsError};

const HEADER_SIZE: usize = 16;
const RANGE_SIZE: usize = 16;

/// What the driver wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Operation {
    /// Read from `sector` on into `data`.
    In {
        /// First sector.
        sector: u64,
        /// Where the bytes go.
        data: Segments,
    },
    /// Write `data` from `sector` on.
    Out {
        /// First sector.
        sector: u64,
        /// The bytes.
        data: Segments,
    },
    /// Make earlier writes durable.
    Flush,
    /// The disk's serial.
    GetId {
        /// Where it goes.
        data: Segments,
    },
    /// Give these sectors back to the host; what they read as afterwards is open.
    Discard(Vec<Range>),
    /// Have these sectors read as zeroes.
    WriteZeroes(Vec<Range>),
    /// A type, or a flag, that this device does not have.
    Unsupported(u32),
}

impl Operation {
    /// Bytes that the host may have to move, as rate limits count them.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::In { data, .. } | Self::Out { data, .. } => data.len() as u64,
            Self::WriteZeroes(ranges) => ranges.iter().map(Range::bytes).sum(),
            Self::Flush | Self::GetId { .. } | Self::Discard(_) | Self::Unsupported(_) => 0,
        }
    }
}

/// Sectors of a disk (`struct virtio_blk_discard_write_zeroes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub sector: u64,
    /// How many; not above the limit that the config space names.
    pub sectors: u32,
    /// Zeroed sectors may be given back to the host.
    pub unmap: bool,
}

impl Range {
    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        u64::from(self.sectors) * SECTOR_SIZE
    }
}

/// Why a request cannot be executed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The chain's form is wrong.
    #[error(transparent)]
    Chain(#[from] Defect),
    /// The header or a list of ranges is too short or not in guest memory.
    #[error("header or ranges: {0}")]
    Header(#[from] SegmentsError),
    /// There is no byte that the device may write.
    #[error("no place for the status")]
    NoStatus,
    /// No whole number of ranges, or more than the config space allows.
    #[error("{bytes} bytes are not 1 to {most} ranges")]
    RangeCount {
        /// What came.
        bytes: usize,
        /// Most ranges in one request.
        most: u32,
    },
    /// More sectors in a range than the config space allows.
    #[error("a range has {sectors} sectors, more than {most}")]
    RangeLength {
        /// What came.
        sectors: u32,
        /// Most sectors in a range.
        most: u32,
    },
}

/// A request: what to do, and where the status goes.
#[derive(Debug)]
pub struct Request {
    /// What to do, or why it cannot be done.
    pub operation: Result<Operation, RequestError>,
    /// The status byte; `None` if the driver left no room for it, so that nothing can be answered.
    pub status: Option<Segments>,
}

impl Request {
    /// Parses a chain.
    pub fn parse(memory: &GuestMemory, chain: Chain) -> Self {
        let Chain { readable, mut writable, defect, .. } = chain;
        let status = writable.take_last_byte();
        let operation = match defect {
            Some(defect) => Err(defect.into()),
            None if status.is_none() => Err(RequestError::NoStatus),
            None => parse_operation(memory, readable, writable),
        };
        Self { operation, status }
    }
}

fn parse_operation(
    memory: &GuestMemory,
    mut readable: Segments,
    writable: Segments,
) -> Result<Operation, RequestError> {
    let mut kind = [0; 4];
    let mut sector = [0; 8];
    let mut header = readable.take_front(HEADER_SIZE);
    header.take_front(4).copy_to(memory, &mut kind)?;
    header.take_front(4);
    header.copy_to(memory, &mut sector)?;
    let sector = u64::from_le_bytes(sector);
    Ok(match u32::from_le_bytes(kind) {
        VIRTIO_BLK_T_IN => Operation::In { sector, data: writable },
        VIRTIO_BLK_T_OUT => Operation::Out { sector, data: readable },
        VIRTIO_BLK_T_FLUSH => Operation::Flush,
        VIRTIO_BLK_T_GET_ID => Operation::GetId { data: writable },
        kind @ VIRTIO_BLK_T_DISCARD => {
            let ranges = parse_ranges(memory, readable, MAX_DISCARD_RANGES, MAX_DISCARD_SECTORS)?;
            // A discard is no zeroing: the flag makes no sense there (section 5.2.6.2).
            match ranges.filter(|ranges| ranges.iter().all(|range| !range.unmap)) {
                Some(ranges) => Operation::Discard(ranges),
                None => Operation::Unsupported(kind),
            }
        }
        kind @ VIRTIO_BLK_T_WRITE_ZEROES => {
            let ranges = parse_ranges(memory, readable, MAX_ZEROES_RANGES, MAX_ZEROES_SECTORS)?;
            ranges.map_or(Operation::Unsupported(kind), Operation::WriteZeroes)
        }
        other => Operation::Unsupported(other),
    })
}

/// The ranges of a discard or a write of zeroes; `None` if one has a flag that does not exist.
fn parse_ranges(
    memory: &GuestMemory,
    mut data: Segments,
    most: u32,
    most_sectors: u32,
) -> Result<Option<Vec<Range>>, RequestError> {
    let bytes = data.len();
    if bytes == 0 || !bytes.is_multiple_of(RANGE_SIZE) || bytes / RANGE_SIZE > most as usize {
        return Err(RequestError::RangeCount { bytes, most });
    }
    let mut ranges = Vec::with_capacity(bytes / RANGE_SIZE);
    while !data.is_empty() {
        let mut entry = [0; RANGE_SIZE];
        data.take_front(RANGE_SIZE).copy_to(memory, &mut entry)?;
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, f0, f1, f2, f3] = entry;
        let sectors = u32::from_le_bytes([n0, n1, n2, n3]);
        if sectors > most_sectors {
            return Err(RequestError::RangeLength { sectors, most: most_sectors });
        }
        let flags = u32::from_le_bytes([f0, f1, f2, f3]);
        if flags & !VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0 {
            return Ok(None);
        }
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        ranges.push(Range { sector, sectors, unmap: flags != 0 });
    }
    Ok(Some(ranges))
}
