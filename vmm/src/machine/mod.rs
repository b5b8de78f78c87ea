//! A virtual machine as a whole: built step by step, then running, then ended.
//!
//! ```text
//!              threads
//!   caller     Vm::build, Vm::restore → Vm::start → RunningVm ─ pause, snapshot, resume, wait, stop
//!   "vmm"      event loop: virtio queues, taps, sockets, console input, halt watch
//!   "vcpuN"    CpuEngine::run → exit::handle → buses → devices
//! ```

mod builder;
mod control;
mod devices;
mod event_thread;
mod handles;
mod opened;
mod plan;
mod platform;
mod requests;
mod running;
mod settling;
mod statistics;
mod vcpus;

pub use builder::{BuildError, Vm};
pub(crate) use control::{VcpuControl, ended};
pub use devices::DeviceError;
pub use handles::{DeviceCounters, Handles};
pub(crate) use opened::Opened;
pub use plan::{Piece, Plan, Slot};
pub(crate) use platform::{Platform, Start};
pub(crate) use requests::Requests;
pub use requests::VmExit;
pub use running::RunningVm;
pub(crate) use running::{raise, signal};
pub use statistics::{Statistic, Statistics};
