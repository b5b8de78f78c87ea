//! One instance: its record, and the files of its directory.
//!
//! ```text
//! created ──► running ──► exited
//!    └──────────────────────▲      (the start failed, or the monitor died)
//! ```
//!
//! The directory holds `lock` (held by the monitor as long as it lives), `control.sock`, `monitor.log`, for a
//! container `bundle/`, `upper/`, `work/`, and for a virtual machine `writable.ext4` and `vsock.sock*`.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use crate::{
    error::{EngineError, Result},
    id,
    root::Root,
    spec::RunSpec,
};

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Recorded; its app does not run yet.
    Created,
    /// Its app runs.
    Running,
    /// Its app ended; the read-write layer is kept.
    Exited,
}

impl State {
    /// The word for it in output and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Exited => "exited",
        }
    }
}

/// What is known of an instance.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Twelve hexadecimal digits.
    pub id: String,
    /// Unique among the instances of a root.
    pub name: String,
    /// Where it is in its life.
    pub state: State,
    /// When it was recorded, in seconds since the Unix epoch.
    pub created: u64,
    /// Digest of the image's manifest.
    pub digest: String,
    /// What was asked for.
    pub spec: RunSpec,
    /// The monitor, while it runs.
    pub monitor_pid: Option<u32>,
    /// The container's init, while it runs.
    pub init_pid: Option<u32>,
    /// Its address on the bridge, while it has one.
    pub address: Option<Ipv4Addr>,
    /// How its app ended.
    pub exit_code: Option<i32>,
    /// Why it ended, where that is not the app's doing.
    pub error: Option<String>,
    pub(crate) dir: PathBuf,
}

impl Instance {
    /// One that is recorded from now on. Where no name was asked for, it has one by chance.
    pub(crate) fn new(root: &Root, id: String, digest: String, spec: RunSpec) -> Self {
        Self {
            name: spec.name.clone().unwrap_or_else(id::random_name),
            state: State::Created,
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            digest,
            spec,
            monitor_pid: None,
            init_pid: None,
            address: None,
            exit_code: None,
            error: None,
            dir: Self::dir_in(root, &id),
            id,
        }
    }

    pub(crate) fn dir_in(root: &Root, id: &str) -> PathBuf {
        root.instances().join(id)
    }

    /// Held by the monitor as long as it lives.
    pub(crate) fn lock(dir: &Path) -> PathBuf {
        dir.join("lock")
    }

    pub(crate) fn control_socket(dir: &Path) -> PathBuf {
        dir.join("control.sock")
    }

    pub(crate) fn monitor_log(dir: &Path) -> PathBuf {
        dir.join("monitor.log")
    }

    /// The directory of its files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The thin read-write layer: a directory for a container, a disk image for a virtual machine.
    #[must_use]
    pub fn writable(&self) -> PathBuf {
        match self.spec.model {
            crate::Model::Container => self.dir.join("upper"),
            crate::Model::Vm => self.dir.join("writable.ext4"),
        }
    }

    /// The image it was made from, by digest: its name may mean another one by now.
    ///
    /// # Errors
    /// When the image is no longer there.
    pub fn image(&self, images: &image::Store) -> Result<image::Image> {
        let invalid = |e: &dyn std::fmt::Display| EngineError::Invalid(format!("{}: {e}", self.spec.image));
        let reference = self.spec.image.parse().map_err(|e: image::ReferenceError| invalid(&e))?;
        let digest = self.digest.parse().map_err(|e: image::DigestError| invalid(&e))?;
        Ok(images.image(reference, &digest)?)
    }

    /// The instance's cgroup, below the root of each hierarchy.
    #[must_use]
    pub fn cgroup(&self) -> String {
        format!("/carve/{}", self.id)
    }
}
