//! From the host to the guest: what was read waits, bounded, until the guest has buffers for it.

use std::io;

use crate::console::HostEnd;
use crate::memory::GuestMemory;
use crate::virtio::chain::Chain;
use crate::virtio::virtqueue::{BUDGET, VirtQueue};

/// Bytes that may wait. With more than this nothing is read, so that whoever writes has to wait, too.
pub(super) const MAX_PENDING: usize = 4096;
/// Bytes read at a time.
const CHUNK: usize = 512;

/// What was read and is not delivered.
#[derive(Debug, Default)]
pub(super) struct Input {
    pub(super) pending: Vec<u8>,
    /// There will be no more.
    pub(super) at_end: bool,
}

impl Input {
    /// Reads until there is no room, or nothing more for now: the latter is true.
    pub(super) fn read(&mut self, end: &mut dyn HostEnd) -> bool {
        let mut chunk = [0; CHUNK];
        while !self.at_end && self.pending.len() + CHUNK <= MAX_PENDING {
            match end.read(&mut chunk) {
                Ok(0) => self.at_end = true,
                Ok(count) => self.pending.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::debug!(%error, "a console has no more input");
                    self.at_end = true;
                }
            }
        }
        self.at_end
    }

    /// Fills the guest's buffers as far as there are both buffers and bytes. Returns the bytes delivered.
    pub(super) fn deliver(&mut self, queue: &mut VirtQueue) -> usize {
        let before = self.pending.len();
        queue.pause_notifications();
        let mut taken = 0;
        while !self.pending.is_empty() && taken < BUDGET {
            let Some(chain) = queue.pop() else {
                if queue.resume_notifications() {
                    queue.pause_notifications();
                    continue;
                }
                break;
            };
            taken += 1;
            let head = chain.head;
            let written = self.put(queue.memory(), chain);
            queue.add_used(head, written);
        }
        if taken > 0 {
            queue.signal();
        }
        if taken == BUDGET {
            queue.wake();
        }
        before - self.pending.len()
    }

    /// Fills one buffer. Returns the bytes written, as the used ring wants them.
    fn put(&mut self, memory: &GuestMemory, mut chain: Chain) -> u32 {
        let count = self.pending.len().min(chain.writable.len());
        let result = match chain.defect {
            None => chain.writable.take_front(count).copy_from(memory, &self.pending[..count]),
            Some(defect) => {
                tracing::debug!(%defect, "malformed console buffer");
                return 0;
            }
        };
        match result {
            Ok(()) => {
                self.pending.drain(..count);
                u32::try_from(count).unwrap_or(u32::MAX)
            }
            Err(error) => {
                tracing::debug!(%error, "useless console buffer");
                0
            }
        }
    }
}
