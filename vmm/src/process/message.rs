//! What the two halves say to each other.

use serde::{Deserialize, Serialize};

use crate::config::VmConfig;
use crate::cpu::Death;
use crate::events::BootEvent;
use crate::jail::JailConfig;
use crate::machine::VmExit;

/// From the parent to the VMM.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToVm {
    /// The first message. Its descriptors: standard input, then those that the configuration refers to, by their place
    /// behind it.
    Build(Box<Build>),
    /// End the guest at once.
    Stop,
}

/// What the VMM is to be.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Build {
    /// The machine.
    pub(super) config: VmConfig,
    /// The jail, if it is to be in one.
    pub(super) jail: Option<JailConfig>,
}

/// From the VMM to its parent. The VMM may be the guest's by now: none of it is to be believed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromVm {
    /// Something on the way from start to end.
    Event(BootEvent),
    /// The guest runs.
    Running,
    /// The machine could not be built, for this reason.
    Failed(String),
    /// The guest ended.
    Ended(VmExit),
    /// The guest died.
    Died(Box<Death>),
    /// The host failed the guest, in this way.
    Broke(String),
    /// The VMM made a system call that its filter forbids. Written by `sys::violation`.
    Forbidden {
        /// Its number.
        call: i32,
        /// The name of the thread that made it.
        thread: String,
    },
}
