//! What a console device asks of the host's side.

use std::fmt::Debug;
use std::io;
use std::os::fd::AsFd;

use event_manager::EventSet;
use rustix::event::epoll;
use serde::{Deserialize, Serialize};

use crate::virtio::Watch;

/// The size of a terminal in characters; zeros where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// The host's side of a console. Nothing here blocks.
///
/// Descriptors are watched for edges: after an event, its owner reads and writes until there is nothing more to do.
pub(crate) trait HostEnd: Debug + Send {
    /// Bytes for the guest; none at all once there will never be more.
    ///
    /// # Errors
    /// `WouldBlock`: nothing now. Anything else: there will be no more.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize>;

    /// Takes bytes from the guest, at least one of them.
    ///
    /// # Errors
    /// `WouldBlock`: no room now. Anything else: they cannot be written, now or later.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// A descriptor that was asked to be watched with `token` is ready.
    fn on_event(&mut self, token: u32);

    /// The size of the terminal, if it is one.
    fn size(&self) -> Option<Size> {
        None
    }

    /// Whether somebody typed that the guest is to end.
    fn wants_end(&self) -> bool {
        false
    }

    /// Changes to what is watched since this was last called.
    fn take_watches(&mut self) -> Vec<Watch>;
}

/// The wish to be told with `token` when `fd` becomes ready for `events`. Files and some devices cannot be watched and
/// are always ready: none for those.
pub(crate) fn watch(fd: impl AsFd, token: u32, events: EventSet) -> Option<Watch> {
    use std::os::fd::AsRawFd;
    let trial = epoll::create(epoll::CreateFlags::CLOEXEC).ok()?;
    let data = epoll::EventData::new_u64(0);
    epoll::add(&trial, &fd, data, epoll::EventFlags::empty()).ok()?;
    Some(Watch::Add { fd: fd.as_fd().as_raw_fd(), token, events: events | EventSet::EDGE_TRIGGERED })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_can_be_watched_and_files_cannot() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(matches!(watch(&reader, 7, EventSet::IN), Some(Watch::Add { token: 7, .. })));
        assert!(watch(tempfile::tempfile().unwrap(), 7, EventSet::IN).is_none());
        assert!(watch(std::fs::File::open("/dev/null").unwrap(), 7, EventSet::IN).is_none());
    }
}
