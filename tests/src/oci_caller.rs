//! What programs that run containers by a runtime need of a test, whose runtime is carve.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{Ended, Host, binary, skip};

/// A place for one of them.
#[derive(Debug)]
pub struct OciCaller {
    /// The place.
    pub host: Host,
    /// carve, by the name that it goes by as a runtime.
    pub runtime: PathBuf,
}

impl OciCaller {
    /// A place for this program, or a skipped test.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new(program: &str) -> Option<Self> {
        let host = Host::for_containers()?;
        if Command::new(program).arg("--version").stdout(Stdio::null()).status().is_err() {
            skip(&format!("{program} is not installed"));
            return None;
        }
        let runtime = host.path("carve-oci");
        std::os::unix::fs::symlink(binary(), &runtime).expect("a link can be made");
        Some(Self { host, runtime })
    }

    /// An archive of a root filesystem with busybox, which is the layer of an image too.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn layer(&self) -> PathBuf {
        let (bundle, archive) = (self.host.bundle("image", &["true"]), self.host.path("layer.tar"));
        let _ = Command::new("tar").arg("-C").arg(bundle.rootfs()).arg("-cf").arg(&archive).arg(".").ok();
        archive
    }
}
