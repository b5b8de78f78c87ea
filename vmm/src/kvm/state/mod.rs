//! The state of a machine of KVM as a snapshot keeps it, and the order in which it is put back.
//!
//! [`VcpuState`] is one vCPU's, [`MachineState`] that of interrupt controllers, timer and clock. KVM's own structures are
//! written as bytes: they are part of its interface and never change.

mod machine;
mod vcpu;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(super) use machine::MachineState;
pub(super) use vcpu::VcpuState;

use super::KvmError;
use crate::cpu::Saved;

fn write<T: Serialize>(what: &'static str, state: &T) -> Result<Saved, KvmError> {
    serde_json::value::to_raw_value(state)
        .map_err(|error| KvmError::State { what, problem: error.to_string() })
}

fn parse<T: DeserializeOwned>(what: &'static str, saved: &Saved) -> Result<T, KvmError> {
    serde_json::from_str(saved.get()).map_err(|error| KvmError::State { what, problem: error.to_string() })
}
