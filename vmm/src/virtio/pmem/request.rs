//! Parsing a persistent memory request (virtio 1.2, section 5.19.6): a type to read and a result to write, four bytes
//! each.

use crate::memory::GuestMemory;
use crate::virtio::chain::{Chain, Defect};
use crate::virtio::segments::{Segments, SegmentsError};

/// VIRTIO_PMEM_REQ_TYPE_FLUSH, the only type there is.
pub const FLUSH: u32 = 0;

/// Why a request cannot be executed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The chain's form is wrong.
    #[error(transparent)]
    Chain(#[from] Defect),
    /// The type is too short or not in guest memory.
    #[error("type: {0}")]
    Type(#[from] SegmentsError),
    /// A type that this device does not have.
    #[error("the type {0} is unknown")]
    Unknown(u32),
}

/// A request for a flush, or what should have been one.
#[derive(Debug)]
pub struct Request {
    /// Names the chain in the used ring.
    pub head: u16,
    /// Whether it is one.
    pub flush: Result<(), RequestError>,
    result: Segments,
}

impl Request {
    /// Parses a chain.
    pub fn parse(memory: &GuestMemory, chain: Chain) -> Self {
        let Chain { head, readable, writable, defect } = chain;
        let flush = match defect {
            Some(defect) => Err(defect.into()),
            None => parse_type(memory, &readable),
        };
        Self { head, flush, result: writable }
    }

    /// Writes the result, 0 for success. Returns the bytes written, as the used ring wants them.
    pub fn answer(&self, memory: &GuestMemory, result: u32) -> u32 {
        match self.result.copy_from(memory, &result.to_le_bytes()) {
            Ok(()) => 4,
            Err(error) => {
                tracing::debug!(%error, "nowhere to put the result of a persistent memory request");
                0
            }
        }
    }
}

fn parse_type(memory: &GuestMemory, readable: &Segments) -> Result<(), RequestError> {
    let mut kind = [0; 4];
    readable.copy_to(memory, &mut kind)?;
    match u32::from_le_bytes(kind) {
        FLUSH => Ok(()),
        other => Err(RequestError::Unknown(other)),
    }
}
