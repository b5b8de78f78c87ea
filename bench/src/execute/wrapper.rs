//! crun refuses hosts that have cgroup version 2 mounted beside version 1. In a mount namespace where that mount is
//! hidden it works; every subject of such a run is started in one, so that all pay for it.

/// Hides the mount and becomes the command. Where there is no such mount, there is nothing to hide.
const SCRIPT: &str = r#"umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@""#;

/// The command line that runs `argv` where the unified cgroup mount is hidden.
pub(super) fn wrapped(argv: Vec<String>) -> Vec<String> {
    ["unshare", "-m", "sh", "-c", SCRIPT, "sh"].map(str::to_owned).into_iter().chain(argv).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_keeps_its_words() {
        let argv = wrapped(vec!["echo".into(), "a b".into()]);
        assert_eq!(argv[..3], ["unshare", "-m", "sh"]);
        assert_eq!(argv[6..], ["echo", "a b"]);
    }
}
