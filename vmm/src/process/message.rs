//! What the two halves say to each other.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::api::Description;
use crate::config::{Engine, VmConfig};
use crate::cpu::Death;
use crate::events::BootEvent;
use crate::jail::JailConfig;
use crate::machine::VmExit;

/// From the parent to the VMM.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToVm {
    /// The first message. Its descriptors: standard input, the control socket and the debugger's if there are any, then
    /// taps.
    Build(Box<Build>),
    /// End the guest at once.
    Stop,
}

/// What the VMM is to be.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Build {
    /// The machine.
    pub(super) machine: Machine,
    /// The jail, if it is to be in one.
    pub(super) jail: Option<JailConfig>,
    /// The machine's name at its control socket, if it has one.
    pub(super) control: Option<String>,
    /// A debugger says when the guest goes on, and has a socket for that.
    pub(super) debugger: bool,
}

/// Where the machine comes from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Machine {
    /// It boots. There is a tap for each of its network cards.
    Boot(Box<VmConfig>),
    /// It goes on from a snapshot. There is a tap for each of its network cards.
    Restore {
        /// The machine, as it is on this host.
        config: Box<VmConfig>,
        /// The file with all but the memory.
        state: PathBuf,
        /// The file with the memory.
        memory: PathBuf,
        /// Let the guest go on.
        resume: bool,
    },
    /// Clients describe it.
    Described {
        /// What runs its kernel.
        engine: Engine,
        /// What is known of it already; then it is started.
        description: Option<Box<Description>>,
        /// The names of the taps that there are.
        taps: Vec<String>,
        /// Without a jail: its threads make only the system calls that they need.
        confine: bool,
    },
}

/// From the VMM to its parent. The VMM may be the guest's by now: none of it is to be believed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromVm {
    /// Something on the way from start to end.
    Event(BootEvent),
    /// The guest runs, or can be described.
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
