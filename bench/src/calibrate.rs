//! What the harness itself costs, so that a reader can take it off a figure, or see that it does not matter.

use serde::{Deserialize, Serialize};

/// Medians in milliseconds; what could not be measured is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// How often each was measured.
    pub n: usize,
    /// Spawn to exit of `true`: what any command costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spawn_ms: Option<f64>,
    /// The same by way of the wrapper that hides the unified cgroup mount; absent when it was not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrapped_spawn_ms: Option<f64>,
    /// The HTTP probe against a server in the harness that answers at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_ms: Option<f64>,
    /// From an event written to its file until the harness has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_ms: Option<f64>,
    /// Spawn to exit of `carve --version`: what the command costs before it does anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_ms: Option<f64>,
}
