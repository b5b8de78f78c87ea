//! The bundles: busybox in a root file system, and the configuration that `carve oci spec` writes, with all default
//! namespaces, a cgroup and a seccomp profile of Docker's shape. All runtimes get the same ones.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::command::run;

/// Where Debian's busybox-static is.
const BUSYBOX: &str = "/bin/busybox";
/// What every runtime takes; crun 1.8 refuses later ones.
const OCI_VERSION: &str = "1.0.2";
/// A memory limit, in bytes, that a runtime which is charged to the container would not fit into.
const SMALL: u64 = 1 << 20;

/// The bundles' directories.
#[derive(Debug)]
pub(super) struct Bundles {
    /// Where everything is.
    pub(super) dir: PathBuf,
    /// Ends at once.
    pub(super) ends: PathBuf,
    /// Says a line when it runs, and goes on.
    pub(super) stays: PathBuf,
    /// Ends at once, and may have 1 MiB.
    pub(super) small: PathBuf,
}

impl Bundles {
    /// Makes them anew in `dir`.
    pub(super) fn make(dir: &Path, carve: &Path) -> Result<Self> {
        let _ = fs::remove_dir_all(dir);
        let bundle = |name: &str, args: Value, memory: Option<u64>| {
            let path = dir.join(name);
            make(&path, carve, args, memory).with_context(|| format!("cannot make {}", path.display()))?;
            Ok::<_, anyhow::Error>(path)
        };
        Ok(Self {
            dir: dir.to_owned(),
            ends: bundle("ends", json!(["true"]), None)?,
            stays: bundle("stays", json!(["sh", "-c", "echo runs; exec sleep 1000"]), None)?,
            small: bundle("small", json!(["true"]), Some(SMALL))?,
        })
    }
}

fn make(dir: &Path, carve: &Path, args: Value, memory: Option<u64>) -> Result<()> {
    let rootfs = dir.join("rootfs");
    for name in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
        fs::create_dir_all(rootfs.join(name))?;
    }
    fs::copy(BUSYBOX, rootfs.join("bin/busybox"))
        .with_context(|| format!("cannot copy {BUSYBOX} (Debian: busybox-static)"))?;
    for name in ["true", "sh", "sleep"] {
        symlink("busybox", rootfs.join("bin").join(name))?;
    }
    run(Command::new(carve).args(["oci", "spec", "--bundle"]).arg(dir))?;
    let path = dir.join("config.json");
    let mut config = serde_json::from_slice(&fs::read(&path)?)?;
    adapt(&mut config, args, memory);
    Ok(fs::write(&path, serde_json::to_vec(&config)?)?)
}

/// Makes the default configuration one that all runtimes take.
fn adapt(config: &mut Value, args: Value, memory: Option<u64>) {
    config["ociVersion"] = json!(OCI_VERSION);
    config["process"]["args"] = args;
    config["process"]["env"] = json!(["PATH=/bin"]);
    for set in ["ambient", "inheritable"] {
        config["process"]["capabilities"][set] = json!([]);
    }
    if let Some(limit) = memory {
        config["linux"]["resources"]["memory"] = json!({ "limit": limit });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_keeps_what_is_not_the_benchmarks() {
        let mut config = json!({
            "process": { "args": ["sh"], "capabilities": { "bounding": ["CAP_CHOWN"] } },
            "linux": { "resources": { "devices": [] }, "seccomp": { "defaultAction": "SCMP_ACT_ERRNO" } }
        });
        adapt(&mut config, json!(["true"]), Some(SMALL));
        assert_eq!(config["process"]["args"], json!(["true"]));
        assert_eq!(config["process"]["capabilities"]["bounding"], json!(["CAP_CHOWN"]));
        assert_eq!(config["linux"]["resources"], json!({ "devices": [], "memory": { "limit": 1_048_576 } }));
        assert_eq!(config["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
    }
}
