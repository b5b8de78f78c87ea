//! Parsing a block request (virtio 1.2, section 5.2.6): a header of 16 bytes, data, and one status byte.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
};

use crate::memory::GuestMemory;
use crate::virtio::chain::{Chain, Defect};
use crate::virtio::segments::{Segments, SegmentsError};

const HEADER_SIZE: usize = 16;

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
    /// A type that this device does not have.
    Unsupported(u32),
}

/// Why a request cannot be executed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The chain's form is wrong.
    #[error(transparent)]
    Chain(#[from] Defect),
    /// The header is too short or not in guest memory.
    #[error("header: {0}")]
    Header(#[from] SegmentsError),
    /// There is no byte that the device may write.
    #[error("no place for the status")]
    NoStatus,
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
            None => parse_operation(memory, readable, writable).map_err(RequestError::from),
        };
        Self { operation, status }
    }
}

fn parse_operation(
    memory: &GuestMemory,
    mut readable: Segments,
    writable: Segments,
) -> Result<Operation, SegmentsError> {
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
        other => Operation::Unsupported(other),
    })
}
