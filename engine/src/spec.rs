//! What the user asked for, in one plain value that is the same for both models.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::network::publish::PublishedPort;

/// Which way an instance runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Model {
    /// Carves the operating system.
    Container,
    /// Carves the hardware.
    Vm,
}

impl Model {
    /// The word for it in output and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Vm => "vm",
        }
    }
}

/// What an instance is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// The bridge that instances of both models share.
    Bridge,
    /// Nothing but its own loopback.
    None,
}

/// The parts of a guest that are not the image: the kernel and the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// The guest kernel, an ELF vmlinux or a bzImage.
    pub kernel: PathBuf,
    /// The uncompressed cpio archive that holds the agent.
    pub initramfs: PathBuf,
    /// What runs the kernel.
    #[serde(default)]
    pub engine: vmm::Engine,
    /// Whether its VMM is in a jail.
    #[serde(default = "jailed")]
    pub jail: bool,
}

fn jailed() -> bool {
    true
}

/// Everything about one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSpec {
    /// The image's reference, as the user wrote it.
    pub image: String,
    /// Which way to run it.
    pub model: Model,
    /// The instance's name; made up when absent.
    pub name: Option<String>,
    /// Replaces the image's command.
    pub command: Vec<String>,
    /// Replaces the image's entrypoint.
    pub entrypoint: Option<String>,
    /// `NAME=value` strings on top of the image's.
    pub env: Vec<String>,
    /// Replaces the image's user.
    pub user: Option<String>,
    /// Replaces the image's working directory.
    pub workdir: Option<String>,
    /// Ports of the host that lead to the instance.
    pub ports: Vec<PublishedPort>,
    /// What it is connected to.
    pub network: NetworkMode,
    /// Bytes: a container's memory limit, a virtual machine's RAM.
    pub memory: Option<u64>,
    /// CPU time per time, in thousandths: a cgroup quota in both models.
    pub cpus_milli: Option<u32>,
    /// Whether the app gets the client's standard input.
    pub interactive: bool,
    /// Whether the instance is removed when it ends.
    pub auto_remove: bool,
    /// A file that gets one JSON line for each step of the start.
    pub events: Option<PathBuf>,
    /// The guest, for a virtual machine.
    pub guest: Option<Guest>,
}
