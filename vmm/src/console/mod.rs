//! Where a guest's console leads on the host, be it the serial port or the virtio console.
//!
//! A [`HostEnd`] is read and written without ever blocking and says what is to be watched: `stdio.rs` is the terminal,
//! `file.rs` a file or pipe, `socket.rs` a Unix socket that clients attach to. `output.rs` is the way out of the first
//! two, `escape.rs` finds Ctrl-A x in what is typed, `attach.rs` is a client of such a socket, `terminal.rs` makes a terminal raw and knows its size.

pub(crate) mod attach;
pub(crate) mod end;
pub(crate) mod escape;
pub(crate) mod file;
pub(crate) mod output;
pub(crate) mod socket;
pub(crate) mod stdio;
pub(crate) mod terminal;

pub use attach::{Left, attach};
pub(crate) use end::HostEnd;
pub use end::Size;
