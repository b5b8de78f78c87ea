//! From the guest to the host: a chain is returned once all of it is written. While the host's side has no room, the rest
//! stays where it is, in the queue.

use std::io;

use crate::console::HostEnd;
use crate::memory::GuestMemory;
use crate::virtio::segments::{Segments, SegmentsError};
use crate::virtio::virtqueue::VirtQueue;

/// Bytes written at a time.
const CHUNK: usize = 4096;
/// Bytes for one wake-up, after which other devices get their turn.
const BYTES_PER_WAKE: usize = 64 << 10;

/// How far the queue is written.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Bytes of the first chain in the queue that are written already.
    pub(super) done: usize,
    /// Bytes written, and bytes that nobody wanted.
    pub(super) written: u64,
    pub(super) lost: u64,
    /// It was said that bytes are lost.
    complained: bool,
}

/// Why a chain is not finished.
enum Stop {
    /// The host's side has no room.
    Full,
    /// Others shall have their turn.
    Tired,
    /// It is not in guest memory.
    Outside(SegmentsError),
}

impl Output {
    /// Writes what the guest has queued.
    pub(super) fn transmit(&mut self, queue: &mut VirtQueue, end: &mut dyn HostEnd) {
        let mut budget = BYTES_PER_WAKE;
        let mut tired = false;
        queue.serve(|memory, chain| {
            let result = match chain.defect {
                None => self.write(memory, chain.readable, end, &mut budget),
                Some(defect) => {
                    tracing::debug!(%defect, "malformed console output");
                    Ok(())
                }
            };
            match result {
                Err(Stop::Full) => return None,
                Err(Stop::Tired) => {
                    tired = true;
                    return None;
                }
                Err(Stop::Outside(error)) => tracing::debug!(%error, "console output that is not in memory"),
                Ok(()) => {}
            }
            self.done = 0;
            Some(0)
        });
        if tired {
            queue.wake();
        }
    }

    /// Writes the rest of one chain.
    fn write(
        &mut self,
        memory: &GuestMemory,
        mut text: Segments,
        end: &mut dyn HostEnd,
        budget: &mut usize,
    ) -> Result<(), Stop> {
        text.take_front(self.done);
        let mut chunk = [0; CHUNK];
        while !text.is_empty() {
            let count = text.len().min(CHUNK).min(*budget);
            if count == 0 {
                return Err(Stop::Tired);
            }
            let bytes = &mut chunk[..count];
            text.copy_to(memory, bytes).map_err(Stop::Outside)?;
            let taken = match end.write(bytes) {
                Ok(taken) => {
                    self.written += taken as u64;
                    taken
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(Stop::Full),
                Err(error) => {
                    self.lose(count, &error);
                    count
                }
            };
            text.take_front(taken);
            self.done += taken;
            *budget -= taken.min(*budget);
        }
        Ok(())
    }

    /// A reader that has gone away must not stop the guest, nor fill the log.
    fn lose(&mut self, count: usize, error: &io::Error) {
        self.lost += count as u64;
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(%error, "console output is lost");
        }
    }
}
