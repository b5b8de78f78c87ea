//! `/`, `/version`, `/vm`, `/actions`: the machine as a whole.

use serde::{Deserialize, Serialize};

/// What `/` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceInfo {
    /// The machine's name, given on the command line.
    pub id: String,
    /// How far it is.
    pub state: InstanceState,
    /// Our version.
    pub vmm_version: String,
    /// `carve`.
    pub app_name: String,
}

/// How far the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum InstanceState {
    /// It is being configured.
    #[serde(rename = "Not started")]
    NotStarted,
    /// The guest runs.
    Running,
    /// The guest stands still.
    Paused,
}

/// What `/version` says, under the name that clients look for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Our version.
    pub firecracker_version: String,
}

/// What the guest is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmUpdate {
    /// Stand still or go on.
    pub state: VmState,
}

/// Stand still or go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum VmState {
    /// Stand still.
    Paused,
    /// Go on.
    Resumed,
}

/// Something to be done once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionInfo {
    /// What.
    pub action_type: ActionType,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActionType {
    /// Start the machine.
    InstanceStart,
    /// Write the metrics now.
    FlushMetrics,
    /// End the guest. There is no keyboard, so it is not asked to shut down: it ends as if its plug was pulled.
    SendCtrlAltDel,
}
