//! The objects of the API: the JSON that clients send and get, in the words of Firecracker's API, and what they mean to
//! the machine.
//!
//! A body with a field that is not known is refused: a client that asks for something must not believe that it has it.

mod boot_source;
mod devices;
mod drive;
mod error;
mod instance;
mod machine;
mod network;
mod observe;
mod snapshot;

pub use boot_source::BootSource;
pub use devices::{Balloon, BalloonStatsUpdate, BalloonUpdate, Entropy, Pmem, Serial, Vsock};
pub(crate) use drive::Disk;
pub use drive::{CacheType, Drive, DriveEngine, DriveUpdate};
pub use error::ModelError;
pub use instance::{ActionInfo, ActionType, InstanceInfo, InstanceState, Version, VmState, VmUpdate};
pub use machine::{HugePages, MachineConfig, MachineConfigUpdate};
pub use network::{NetworkInterface, NetworkInterfaceUpdate};
pub use observe::{LogLevel, Logger, Metrics};
pub use snapshot::{BackendType, MemoryBackend, NetworkOverride, SnapshotCreate, SnapshotLoad};
