//! The devices that whoever runs a machine has a say in.

use std::sync::{Arc, Mutex};

use crate::virtio::Balloon;

/// Hands on devices of a running machine. Lock them for as short as can be: the guest may be waiting.
#[derive(Debug, Clone, Default)]
pub struct Handles {
    /// The memory balloon: its size, what the guest tells of its memory.
    pub balloon: Option<Arc<Mutex<Balloon>>>,
}
