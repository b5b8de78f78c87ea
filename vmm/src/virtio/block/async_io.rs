//! Requests that the host works on through a ring, while the VMM goes on.
//!
//! Reads, writes and flushes go through it; what the ring cannot do, or does only in part, is done at once. A flush begins
//! after everything that was begun before it, and before everything that comes after it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, eventfd};
use vm_memory::Permissions;

use crate::memory::GuestMemory;
use crate::sys::file_ring::FileRing;
use crate::virtio::block::disk::Disk;
use crate::virtio::block::model::{Kind, Model};
use crate::virtio::block::request::Operation;
use crate::virtio::segments::Segments;

/// Most requests in the ring: half a queue, for each takes two descriptors or more, unless they are indirect.
const CAPACITY: u16 = 128;

/// A ring and its eventfd.
#[derive(Debug)]
pub(super) struct AsyncIo {
    ring: FileRing<Pending>,
    done: OwnedFd,
}

/// A request in the ring.
#[derive(Debug)]
pub(super) struct Pending {
    /// The queue that it came from.
    pub(super) queue: usize,
    /// Its chain.
    pub(super) head: u16,
    kind: Kind,
    offset: u64,
    data: Segments,
    status: Segments,
}

/// Takes a complete request and the bytes that were moved.
pub(super) type Complete<'a> = dyn FnMut(Pending, io::Result<usize>) + 'a;

/// What has become of a request that was to begin.
#[derive(Debug)]
pub(super) enum Begun {
    /// The ring has it.
    InRing,
    /// It is no work for the ring.
    NotForRing(Operation, Segments),
}

impl AsyncIo {
    /// A ring for the file of `disk`.
    ///
    /// # Errors
    ///
    /// The host gives none.
    pub(super) fn new(disk: &Disk) -> io::Result<Self> {
        let done = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { ring: disk.ring(&done, CAPACITY)?, done })
    }

    /// Exchanges the ring for one of the disk's new file. Nothing is in progress.
    ///
    /// # Errors
    ///
    /// The host gives none any more.
    pub(super) fn follow(&mut self, disk: &Disk) -> io::Result<()> {
        self.ring = disk.ring(&self.done, CAPACITY)?;
        Ok(())
    }

    /// What becomes readable when requests are complete.
    pub(super) fn fd(&self) -> RawFd {
        self.done.as_raw_fd()
    }

    /// Signals, as the kernel does.
    #[cfg(test)]
    pub(super) fn raise(&self) {
        rustix::io::write(&self.done, &1u64.to_ne_bytes()).expect("an eventfd has room");
    }

    /// Leaves the ring, of which nothing is used any more but what the event loop watches.
    pub(super) fn into_fd(self) -> OwnedFd {
        self.done
    }

    /// Whether another request may begin.
    pub(super) fn has_room(&self) -> bool {
        self.ring.has_room()
    }

    /// Puts a request into the ring, if it is one for it.
    pub(super) fn begin(
        &mut self,
        model: &Model,
        memory: &GuestMemory,
        (queue, head): (usize, u16),
        operation: Operation,
        status: Segments,
    ) -> Begun {
        let pending = |kind, offset, data: &Segments| Pending {
            queue,
            head,
            kind,
            offset,
            data: data.clone(),
            status: status.clone(),
        };
        // What is wrong with a request is found again, and answered, when it is done at once.
        let begun = match &operation {
            Operation::In { sector, data } if !data.is_empty() => {
                model.disk.check(*sector, data.len()).and_then(|offset| {
                    let slices = data.slices(memory, Permissions::Write)?;
                    self.ring.read(pending(Kind::In, offset, data), memory, &slices, offset)
                })
            }
            Operation::Out { sector, data } if !data.is_empty() => {
                model.disk.check_write(*sector, data.len()).and_then(|offset| {
                    let slices = data.slices(memory, Permissions::Read)?;
                    let durable = model.write_through && model.flushes();
                    self.ring.write(pending(Kind::Out, offset, data), memory, &slices, offset, durable)
                })
            }
            Operation::Flush if model.flushes() => {
                self.ring.sync_data(pending(Kind::Flush, 0, &Segments::default()))
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        };
        begun.map_or(Begun::NotForRing(operation, status), |()| Begun::InRing)
    }

    /// Has the host begin, and hands over what is complete already. Such requests do not signal.
    ///
    /// # Errors
    ///
    /// The ring fails; see [`Self::give_up`].
    pub(super) fn submit(&mut self, complete: &mut Complete<'_>) -> io::Result<()> {
        self.ring.signal(false);
        let submitted = self.ring.submit();
        self.collect(complete);
        self.ring.signal(true);
        // What has completed just before signals were wanted again.
        self.collect(complete);
        submitted
    }

    /// Takes the signal back. There may be none any more.
    pub(super) fn acknowledge(&self) {
        let _ = rustix::io::read(&self.done, &mut [0; 8]);
    }

    /// Waits for everything that is in progress and hands it over.
    ///
    /// # Errors
    ///
    /// The ring fails; see [`Self::give_up`].
    pub(super) fn drain(&mut self, complete: &mut Complete<'_>) -> io::Result<()> {
        while self.ring.in_progress() > 0 {
            self.ring.wait()?;
            self.collect(complete);
        }
        Ok(())
    }

    /// Hands over what is complete.
    pub(super) fn collect(&mut self, complete: &mut Complete<'_>) {
        while let Some((pending, result)) = self.ring.take_complete() {
            complete(pending, result);
        }
    }

    /// Hands over what was in progress in a ring that fails, as failed.
    pub(super) fn give_up(&mut self, complete: &mut Complete<'_>) {
        for pending in self.ring.abandon() {
            complete(pending, Err(io::ErrorKind::BrokenPipe.into()));
        }
    }
}

impl Pending {
    /// Does what the ring has left to do, counts and answers. Returns the bytes written to the guest.
    pub(super) fn conclude(self, model: &mut Model, memory: &GuestMemory, result: io::Result<usize>) -> u32 {
        let Self { kind, offset, data, status, .. } = self;
        let bytes = data.len() as u64;
        let result = match result {
            // The thread that began it has ended, or the kernel would like to be asked again.
            Err(error) if is_transient(&error) => finish(model, memory, kind, offset, data),
            Err(error) => Err(error),
            Ok(done) if done as u64 >= bytes => Ok(()),
            Ok(done) => {
                let mut rest = data;
                rest.take_front(done);
                finish(model, memory, kind, offset + done as u64, rest)
            }
        };
        model.conclude(memory, kind, bytes, result, &status)
    }
}

/// Does the rest of a request at once.
fn finish(model: &Model, memory: &GuestMemory, kind: Kind, offset: u64, rest: Segments) -> io::Result<()> {
    match kind {
        Kind::In => model.disk.read_at(memory, offset, rest),
        Kind::Out => model.disk.write_at(memory, offset, rest).and_then(|()| model.write_through()),
        _ => model.flush(),
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::ECANCELED))
}
