//! What a client wants: each request that is understood is one [`Action`].

use super::model::{
    Balloon, BalloonStatsUpdate, BalloonUpdate, BootSource, Drive, DriveUpdate, Entropy, Logger,
    MachineConfig, MachineConfigUpdate, Metrics, NetworkInterface, NetworkInterfaceUpdate, Pmem, Serial,
    SnapshotCreate, SnapshotLoad, Vsock,
};

/// Something to be done or told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Say what this is and how far the machine is.
    Describe,
    /// Say the version.
    Version,
    /// Say all that is configured.
    ShowConfig,
    /// Say vCPUs and memory.
    ShowMachine,
    /// Say what the balloon is to be.
    ShowBalloon,
    /// Say what the guest says of its memory.
    ShowBalloonStatistics,
    /// Say all figures.
    ShowMetrics,
    /// Before the start: say what the machine is to be.
    Configure(Part),
    /// Start it.
    Start,
    /// Start it from a snapshot.
    Load(SnapshotLoad),
    /// The rest needs a machine.
    Change(Change),
    /// Write the metrics now.
    FlushMetrics,
}

/// A part of what a machine is to be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    BootSource(BootSource),
    Machine(MachineConfig),
    MachineUpdate(MachineConfigUpdate),
    Drive(Drive),
    Network(NetworkInterface),
    Vsock(Vsock),
    Balloon(Balloon),
    Entropy(Entropy),
    Pmem(Pmem),
    Serial(Serial),
    Logger(Logger),
    Metrics(Metrics),
}

/// A change of a machine that has started.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    Pause,
    Resume,
    Stop,
    Snapshot(SnapshotCreate),
    Drive(DriveUpdate),
    Network(NetworkInterfaceUpdate),
    Balloon(BalloonUpdate),
    BalloonStatistics(BalloonStatsUpdate),
}

impl Change {
    /// Whether there are paths in it.
    pub(crate) fn names_files(&self) -> bool {
        match self {
            Self::Snapshot(_) => true,
            Self::Drive(update) => update.path_on_host.is_some(),
            Self::Pause
            | Self::Resume
            | Self::Stop
            | Self::Network(_)
            | Self::Balloon(_)
            | Self::BalloonStatistics(_) => false,
        }
    }
}
