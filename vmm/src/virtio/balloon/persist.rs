//! What a snapshot keeps of a balloon: its sizes, and what the guest has told.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::virtio::balloon::device::Balloon;
use crate::virtio::balloon::statistics::GuestStats;
use crate::virtio::device::RestoreError;

/// A balloon in a snapshot.
#[derive(Debug, Serialize, Deserialize)]
struct BalloonState {
    target_pages: u32,
    actual_pages: u32,
    stats_polling_interval_s: u16,
    guest_stats: GuestStats,
}

impl Balloon {
    pub(super) fn save_state(&self) -> Value {
        let state = BalloonState {
            target_pages: self.space.target_pages,
            actual_pages: self.space.actual_pages,
            stats_polling_interval_s: self.config.stats_polling_interval_s,
            guest_stats: self.guest_stats,
        };
        // Numbers alone: this cannot fail.
        serde_json::to_value(state).unwrap_or_default()
    }

    pub(super) fn restore_state(&mut self, state: &Value) -> Result<(), RestoreError> {
        let state = BalloonState::deserialize(state)?;
        let mismatch = |error: &dyn std::fmt::Display| RestoreError::Mismatch(error.to_string());
        if state.stats_polling_interval_s != self.config.stats_polling_interval_s {
            self.set_stats_interval(state.stats_polling_interval_s).map_err(|error| mismatch(&error))?;
        }
        self.space.target_pages = state.target_pages;
        self.space.actual_pages = state.actual_pages;
        self.guest_stats = state.guest_stats;
        Ok(())
    }
}
