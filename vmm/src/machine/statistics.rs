//! Figures of a machine that are not its devices'.

use serde::Serialize;

/// What somebody has counted, under one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Who: `kvm_vm`, `kvm_vcpu0`, …
    pub group: String,
    /// What.
    pub figures: Vec<Statistic>,
}

/// A figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Statistic {
    /// Its name, as whoever keeps it has it.
    pub name: String,
    /// Its value.
    pub value: u64,
    /// It says how things are, and is no count since the start.
    pub is_now: bool,
}
