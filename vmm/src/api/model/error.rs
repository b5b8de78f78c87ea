//! Why what a client has said of a machine cannot be taken.

/// Something in a body that makes no sense here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Firecracker has it, or will; this VMM has it not.
    #[error("this VMM does not have {0}")]
    NotAvailable(&'static str),
    /// A disk without a file, or with a back end besides.
    #[error(
        "give drive {0:?} either a path_on_host, its file or block device, or the socket of a vhost-user back end"
    )]
    DrivePath(String),
    /// Two disks with the root file system.
    #[error("{0:?} is the root device already; there can be one")]
    SecondRoot(String),
    /// The number of vCPUs.
    #[error("{asked} vCPUs were asked for; give a vcpu_count from 1 to {max}")]
    Vcpus {
        /// How many.
        asked: u8,
        /// At most.
        max: u8,
    },
    /// No memory at all.
    #[error("a machine needs memory; give a mem_size_mib above 0")]
    NoMemory,
    /// A balloon larger than the machine.
    #[error("a balloon of {balloon} MiB does not fit a machine of {memory} MiB")]
    Balloon {
        /// Its size.
        balloon: u32,
        /// The machine's.
        memory: u32,
    },
    /// A patch that changes nothing.
    #[error("Empty PATCH request.")]
    EmptyPatch,
    /// The memory of a snapshot is named twice.
    #[error("too many fields: either `mem_backend` or `mem_file_path` exclusively is required")]
    TwoMemories,
    /// The memory of a snapshot is not named.
    #[error("missing field: either `mem_backend` or `mem_file_path` is required")]
    NoMemoryFile,
    /// Nothing to boot.
    #[error("there is no kernel to boot; PUT /boot-source first")]
    NoBootSource,
}
