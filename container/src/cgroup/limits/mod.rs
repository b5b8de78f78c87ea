//! Which limit goes into which file: a table from the OCI fields to v1 and v2, as values. One file a section of
//! `linux.resources`; device rules are apart, in `devices.rs`.
//!
//! A [`Setting`] says where its value goes in either version. Which of the two a host has is for `wanted.rs`.

mod block_io;
mod cpu;
mod hugepages;
mod memory;
mod network;
mod rdma;
mod unified;

use std::borrow::Cow;

use oci_spec::runtime::{LinuxPids, LinuxResources};

use super::CgroupError;

/// One limit, in the words of both versions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// Its path below `linux.resources`.
    pub(super) field: String,
    pub(super) v1: Option<Target>,
    pub(super) v2: Option<Target>,
    /// It asks for no more than what holds where the kernel has no such file.
    pub(super) optional: bool,
}

/// Where a limit goes in one version.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) controller: Cow<'static, str>,
    /// Files with what is written to them; the first one that the kernel has is taken.
    pub(super) files: Vec<(Cow<'static, str>, String)>,
}

/// All limits that `resources` asks for, in the order in which they should be set.
pub(super) fn settings(resources: &LinuxResources) -> Result<Vec<Setting>, CgroupError> {
    let mut settings = Vec::new();
    if let Some(memory) = resources.memory() {
        memory::add(memory, &mut settings)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu::add(cpu, &mut settings)?;
    }
    if let Some(pids) = resources.pids() {
        settings.push(pids_limit(pids));
    }
    if let Some(block_io) = resources.block_io() {
        block_io::add(block_io, &mut settings)?;
    }
    hugepages::add(resources.hugepage_limits().as_deref().unwrap_or_default(), &mut settings)?;
    if let Some(network) = resources.network() {
        network::add(network, &mut settings)?;
    }
    if let Some(rdma) = resources.rdma() {
        rdma::add(rdma, &mut settings)?;
    }
    // Last: what is said in the kernel's own words wins.
    if let Some(unified) = resources.unified() {
        unified::add(unified, &mut settings)?;
    }
    Ok(settings)
}

/// Any number of processes may be asked for by 0 and by less.
fn pids_limit(pids: &LinuxPids) -> Setting {
    let value = if pids.limit() > 0 { pids.limit().to_string() } else { "max".to_owned() };
    Setting::new("pids.limit").both("pids", "pids.max", value)
}

impl Setting {
    /// A limit that no version has yet.
    fn new(field: impl Into<String>) -> Self {
        Self { field: field.into(), v1: None, v2: None, optional: false }
    }

    /// Adds a file of v1.
    fn v1(
        mut self,
        controller: &'static str,
        file: impl Into<Cow<'static, str>>,
        value: impl ToString,
    ) -> Self {
        Target::add(&mut self.v1, controller.into(), file.into(), value.to_string());
        self
    }

    /// Adds a file of v2.
    fn v2(
        mut self,
        controller: impl Into<Cow<'static, str>>,
        file: impl Into<Cow<'static, str>>,
        value: impl ToString,
    ) -> Self {
        Target::add(&mut self.v2, controller.into(), file.into(), value.to_string());
        self
    }

    /// Adds a file that both versions have under one name.
    fn both(
        self,
        controller: &'static str,
        file: impl Into<Cow<'static, str>>,
        value: impl ToString,
    ) -> Self {
        let (file, value) = (file.into(), value.to_string());
        self.v1(controller, file.clone(), value.clone()).v2(controller, file, value)
    }

    /// Does without where the kernel has no such file, if `optional`.
    fn optional(mut self, optional: bool) -> Self {
        self.optional = optional;
        self
    }
}

impl Target {
    fn add(target: &mut Option<Self>, controller: Cow<'static, str>, file: Cow<'static, str>, value: String) {
        let target = target.get_or_insert_with(|| Self { controller, files: Vec::new() });
        target.files.push((file, value));
    }
}

/// Makes a [`CgroupError::Unsupported`].
fn refused(field: impl Into<String>, reason: &'static str) -> CgroupError {
    CgroupError::Unsupported { field: field.into(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes into v1 and v2 files, in order; alternatives are joined by ` | `.
    pub(super) fn files(json: &str) -> (Vec<String>, Vec<String>) {
        let settings = settings(&serde_json::from_str(json).unwrap()).unwrap();
        let show = |target: &Option<Target>| {
            let files = target.as_ref()?.files.iter().map(|(name, value)| format!("{name}={value}"));
            Some(files.collect::<Vec<_>>().join(" | "))
        };
        let v1 = settings.iter().filter_map(|s| show(&s.v1)).collect();
        (v1, settings.iter().filter_map(|s| show(&s.v2)).collect())
    }

    /// The field that is refused.
    pub(super) fn refused_field(json: &str) -> String {
        match settings(&serde_json::from_str(json).unwrap()) {
            Err(CgroupError::Unsupported { field, .. }) => field,
            other => panic!("{json}: {other:?}"),
        }
    }

    #[test]
    fn pids() {
        assert_eq!(files(r#"{"pids": {"limit": 7}}"#).0, ["pids.max=7"]);
        assert_eq!(files(r#"{"pids": {"limit": -1}}"#).1, ["pids.max=max"]);
    }

    #[test]
    fn nothing_asked_for_is_nothing_set() {
        let empty = r#"{"memory": {}, "cpu": {}, "blockIO": {}, "hugepageLimits": [], "network": {}, "rdma": {},
            "unified": {}}"#;
        assert_eq!(files(empty), (vec![], vec![]));
    }
}
