//! A virtual machine as a whole: built step by step, then running, then ended.
//!
//! ```text
//!              threads
//!   caller     Vm::build → Vm::start → RunningVm ─ wait, try_wait, exit_fd, stop
//!   "vmm"      event loop: virtio queues, taps, sockets, console input, halt watch
//!   "vcpu0"    CpuEngine::run → exit::handle → buses → devices
//! ```

mod builder;
mod devices;
mod platform;
mod requests;
mod running;

pub use builder::{BuildError, Vm};
pub use devices::DeviceError;
pub(crate) use platform::Platform;
pub(crate) use requests::Requests;
pub use requests::VmExit;
pub use running::RunningVm;
pub(crate) use running::raise;
