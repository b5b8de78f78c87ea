//! Instances of either kind: how they start, live and end.
//!
//! [`Engine`] is one data root opened: its images, its instances, what is left of those whose monitor died
//! (cleaned up on opening). [`Engine::launch`] records an instance and starts its *monitor*, a process of its own
//! that owns a container's init or is the virtual machine monitor, and lives exactly as long as the instance.
//! [`monitor::run`] is that process. Everyone else speaks with a monitor over its control socket, in the messages
//! of [`agent::protocol`], whatever the model: see [`control`].

pub mod control;
mod database;
mod disk;
mod engine;
mod error;
mod events;
mod files;
mod frames;
mod id;
mod image_process;
mod instance;
mod launch;
mod model;
pub mod monitor;
mod network;
mod reconcile;
mod root;
mod rootfs;
mod spec;

pub use engine::Engine;
pub use error::EngineError;
pub use events::Events;
pub use instance::{Instance, State};
pub use launch::Attached;
pub use network::publish::{Protocol, PublishedPort};
pub use root::default_root;
pub use spec::{Guest, Model, NetworkMode, RunSpec};
