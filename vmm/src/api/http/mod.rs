//! As much of HTTP/1.1 (RFC 9112) as the control API needs, as pure functions between bytes and messages.
//!
//! [`Connection`] takes what a client sends and gives requests; [`Response`] becomes bytes. No descriptors here.

mod connection;
mod request;
mod response;

pub(crate) use connection::{Connection, Step};
pub(crate) use request::{HttpError, Method, Request};
pub(crate) use response::{CONTINUE, Response, Status};
