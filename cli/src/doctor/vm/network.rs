//! A network of the report's own: a namespace with a tap, gone with this process.

use std::process::Command;

use agent::self_test::{HOST, PREFIX};
use rustix::thread::UnshareFlags;

const TAP: &str = "carve-doctor";

/// Leaves the host's network for one with nothing in it but a tap, and says its name; or why not.
pub(super) fn make_tap() -> Result<String, String> {
    #[expect(deprecated, reason = "unsafe only with CLONE_FILES, which is not used")]
    let left = rustix::thread::unshare(UnshareFlags::NEWNET);
    left.map_err(|e| format!("a network of its own takes root: {e}"))?;
    let address = format!("{HOST}/{PREFIX}");
    for words in [
        &["tuntap", "add", "dev", TAP, "mode", "tap", "vnet_hdr"][..],
        &["addr", "add", &address, "dev", TAP],
        &["link", "set", TAP, "up"],
    ] {
        let output = Command::new("ip").args(words).output();
        let output = output.map_err(|e| format!("cannot run ip: {e}; install the package iproute2"))?;
        if !output.status.success() {
            return Err(format!(
                "ip {}: {}",
                words.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            ));
        }
    }
    Ok(TAP.to_owned())
}
