//! From bytes to [`Op`]s: decoding, and remembering what was decoded.
//!
//! [`block`] decodes a run of instructions up to the next branch, [`cache`] keeps the blocks, which [`slots`] finds by
//! address, [`operands`] reads operands out of the decoder's instructions for the groups in [`super::ops`].

pub(crate) mod block;
pub(crate) mod cache;
pub(crate) mod op;
pub(crate) mod operands;
mod slots;
