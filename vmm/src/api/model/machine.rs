//! `/machine-config`: vCPUs and memory.

use serde::{Deserialize, Serialize};

use super::ModelError;

/// Most vCPUs, as in Firecracker.
const MAX_VCPUS: u8 = 32;

/// vCPUs and memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineConfig {
    /// vCPUs.
    pub vcpu_count: u8,
    /// RAM in MiB.
    pub mem_size_mib: u32,
    /// Two threads of a core; refused when true.
    #[serde(default)]
    pub smt: bool,
    /// A named set of CPU features; only `None` is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_template: Option<String>,
    /// Taken and kept; nothing has to be done for it.
    #[serde(default)]
    pub track_dirty_pages: bool,
    /// What pages the memory is made of.
    #[serde(default)]
    pub huge_pages: HugePages,
}

/// What pages guest memory is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HugePages {
    /// The host's usual ones.
    #[default]
    None,
    /// Of 2 MiB, from the host's pool.
    #[serde(rename = "2M")]
    Huge2M,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self {
            vcpu_count: 1,
            mem_size_mib: 128,
            smt: false,
            cpu_template: None,
            track_dirty_pages: false,
            huge_pages: HugePages::None,
        }
    }
}

/// What is to change in the configuration; what is missing stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MachineConfigUpdate {
    vcpu_count: Option<u8>,
    mem_size_mib: Option<u32>,
    smt: Option<bool>,
    cpu_template: Option<String>,
    track_dirty_pages: Option<bool>,
    huge_pages: Option<HugePages>,
}

impl MachineConfig {
    /// Checks what can be checked now.
    ///
    /// # Errors
    /// A figure is out of range, or something is asked for that is not there.
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        if !(1..=MAX_VCPUS).contains(&self.vcpu_count) {
            return Err(ModelError::Vcpus { asked: self.vcpu_count, max: MAX_VCPUS });
        }
        if self.mem_size_mib == 0 {
            return Err(ModelError::NoMemory);
        }
        if self.smt {
            return Err(ModelError::NotAvailable("smt; each vCPU is a core of its own"));
        }
        if self.cpu_template.as_deref().is_some_and(|name| name != "None") {
            return Err(ModelError::NotAvailable("CPU templates; leave cpu_template out"));
        }
        Ok(())
    }

    /// The configuration with `update` in it.
    ///
    /// # Errors
    /// Nothing is asked for, or the result makes no sense.
    pub(crate) fn updated(&self, update: &MachineConfigUpdate) -> Result<Self, ModelError> {
        if *update == MachineConfigUpdate::default() {
            return Err(ModelError::EmptyPatch);
        }
        let updated = Self {
            vcpu_count: update.vcpu_count.unwrap_or(self.vcpu_count),
            mem_size_mib: update.mem_size_mib.unwrap_or(self.mem_size_mib),
            smt: update.smt.unwrap_or(self.smt),
            cpu_template: update.cpu_template.clone().or_else(|| self.cpu_template.clone()),
            track_dirty_pages: update.track_dirty_pages.unwrap_or(self.track_dirty_pages),
            huge_pages: update.huge_pages.unwrap_or(self.huge_pages),
        };
        updated.check()?;
        Ok(updated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_changes_what_it_names() {
        let patch = |text: &str| serde_json::from_str(text).unwrap();
        let config = MachineConfig::default().updated(&patch(r#"{"mem_size_mib": 512}"#)).unwrap();
        assert_eq!((config.vcpu_count, config.mem_size_mib), (1, 512));
        for (text, wanted) in [
            ("{}", "Empty PATCH"),
            (r#"{"vcpu_count": 0}"#, "from 1 to 32"),
            (r#"{"vcpu_count": 33}"#, "from 1 to 32"),
            (r#"{"mem_size_mib": 0}"#, "memory"),
            (r#"{"smt": true}"#, "smt"),
            (r#"{"cpu_template": "T2"}"#, "CPU templates"),
        ] {
            let error = config.updated(&patch(text)).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        config.updated(&patch(r#"{"cpu_template": "None"}"#)).unwrap();
    }
}
