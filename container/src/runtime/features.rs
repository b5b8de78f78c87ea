//! What this runtime can do, for those who drive one (runtime specification, "Features").

use serde_json::{Value, json};

use crate::SPEC_VERSION;

/// Words that stand in a mount's `options` and are no data for a filesystem; most also with an `r` in front, for the mounts
/// below as well.
const MOUNT_OPTIONS: [&str; 43] = [
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "exec",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "rbind",
    "relatime",
    "ro",
    "rprivate",
    "rro",
    "rrw",
    "rslave",
    "rnodev",
    "rnoexec",
    "rnosuid",
    "rw",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "rnoatime",
    "rrelatime",
    "idmap",
    "remount",
    "ridmap",
    "rshared",
    "runbindable",
    "shared",
    "tmpcopyup",
    "unbindable",
];

/// What a filter's `flags` may hold.
const SECCOMP_FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// The `features` document.
pub fn features() -> Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": MOUNT_OPTIONS.as_slice(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities(),
            "cgroup": { "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": true },
            "seccomp": {
                "enabled": true,
                "actions": [
                    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
                ],
                "operators": [
                    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                    "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE",
                ],
                "archs": ["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
                "knownFlags": SECCOMP_FLAGS,
                "supportedFlags": SECCOMP_FLAGS,
            },
            "apparmor": { "enabled": false },
            "selinux": { "enabled": false },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": true },
        },
        "annotations": { "carve.version": env!("CARGO_PKG_VERSION") },
    })
}

/// The names of all capabilities that Linux has.
fn capabilities() -> Vec<String> {
    let named = crate::plan::all_capabilities().into_iter();
    named.map(|capability| format!("CAP_{}", capability.to_string().trim_start_matches("CAP_"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::is_mount_word;

    #[test]
    fn the_document_is_what_the_specification_describes() {
        let parsed: oci_spec::runtime::Features = serde_json::from_value(features()).unwrap();
        assert_eq!(parsed.oci_version_max(), SPEC_VERSION);
        let capabilities = features()["linux"]["capabilities"].clone();
        let capabilities: Vec<String> = serde_json::from_value(capabilities).unwrap();
        assert_eq!(capabilities.len(), 41);
        assert!(capabilities.contains(&"CAP_CHECKPOINT_RESTORE".to_owned()), "{capabilities:?}");
    }

    #[test]
    fn each_mount_option_is_understood() {
        for option in MOUNT_OPTIONS {
            assert!(is_mount_word(option), "{option}");
        }
    }
}
