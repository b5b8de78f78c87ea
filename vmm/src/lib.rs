//! A VMM: turns a [`VmConfig`] into a running virtual machine.
//!
//! ```text
//!   VmConfig ──Vm::build──► Vm ──start──► RunningVm ──wait──► VmExit, or why the guest died
//! ```
//!
//! `machine` holds these steps; `boot` reads kernels and describes the machine to them; `cpu` is the interface of a
//! CPU engine, of which there are two: `kvm`, and `soft`, which interprets the guest's kernel and lets `kvm` run its
//! programs. `legacy` and [`virtio`] are the devices on the [`bus`]; [`memory`] is the guest's RAM and its map; [`events`]
//! says what happened when, `gdb` lets a debugger stop it, `profile` and `symbols` where the kernel spent its
//! instructions. Knows no images and no containers.

pub mod api;
mod boot;
pub mod bus;
pub mod config;
mod console;
mod cpu;
pub mod events;
#[cfg(any(test, feature = "fuzzing"))]
#[expect(clippy::cast_possible_truncation, reason = "any number does for a fuzzer")]
pub mod fuzzing;
mod gdb;
pub mod interrupt;
pub mod jail;
mod kvm;
mod legacy;
mod machine;
pub mod memory;
pub mod process;
mod profile;
pub mod seccomp;
pub mod snapshot;
mod soft;
mod symbols;
mod sys;
pub mod virtio;

pub use boot::BootError;
pub use config::{
    Acpi, BalloonConfig, CacheMode, ConfigError, ConsoleConfig, DiskConfig, Engine, FsConfig, IoEngine,
    NetConfig, PmemConfig, RateLimiterConfig, RngConfig, SerialConfig, TapSource, TokenBucketConfig,
    VhostUserBlockConfig, VmConfig, VsockConfig,
};
pub use console::{Left as ConsoleLeft, Size as ConsoleSize, attach as attach_console};
pub use cpu::{CpuError, Death};
pub use events::{BootEvent, EventSink, Milestone};
pub use jail::{JailConfig, JailError};
pub use kvm::{KvmError, KvmSurvey};
pub use legacy::boot_timer::BOOT_TIMER_PORT;
pub use machine::{
    BuildError, DeviceCounters, DeviceError, Handles, Piece, Plan, RunningVm, Slot, Statistic, Statistics,
    Vm, VmExit,
};
pub use memory::MemoryError;
pub use process::{Control, Described, ProcessError, ProcessOptions, VmProcess};
pub use profile::{Counters, Profile};
pub use snapshot::{Snapshot, SnapshotError, SnapshotKind};
pub use symbols::{Symbols, SymbolsError};
