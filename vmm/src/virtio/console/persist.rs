//! What a snapshot keeps of a console: what is under way in both directions, and the size that the guest knows.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::console::Size;
use crate::virtio::console::device::Console;
use crate::virtio::console::receive::MAX_PENDING;
use crate::virtio::device::RestoreError;

/// A console in a snapshot.
#[derive(Debug, Serialize, Deserialize)]
struct ConsoleState {
    /// Input that the guest has not got.
    pending: Vec<u8>,
    /// Bytes of the first chain of output that are written already.
    written: usize,
    size: Size,
}

impl Console {
    pub(super) fn save_state(&self) -> Value {
        let state =
            ConsoleState { pending: self.input.pending.clone(), written: self.output.done, size: self.size };
        // Numbers alone: this cannot fail.
        serde_json::to_value(state).unwrap_or_default()
    }

    /// The terminal is another one now: where it has a size, the guest hears of it.
    pub(super) fn restore_state(&mut self, state: &Value) -> Result<(), RestoreError> {
        let ConsoleState { pending, written, size } = ConsoleState::deserialize(state)?;
        if pending.len() > MAX_PENDING {
            let problem = format!("{} bytes of input wait, at most {MAX_PENDING} can", pending.len());
            return Err(RestoreError::Mismatch(problem));
        }
        self.input.pending = pending;
        self.output.done = written;
        let here = std::mem::replace(&mut self.size, size);
        if here != Size::default() {
            self.set_size(here);
        }
        Ok(())
    }
}
