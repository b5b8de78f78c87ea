//! `--vhost-user-disk socket=PATH[,id=TEXT][,queues=N]`.

use std::str::FromStr;

use anyhow::{Context, bail};
use vmm::VhostUserBlockConfig;

/// How the flag is written.
pub(super) const FORM: &str = "socket=PATH[,id=TEXT][,queues=N]";

/// A disk that another process serves as the flag describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct VhostUserDisk(pub(super) VhostUserBlockConfig);

impl FromStr for VhostUserDisk {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut config = VhostUserBlockConfig::new("");
        for word in text.split(',') {
            match word.split_once('=') {
                Some(("socket", path)) => config.socket = path.into(),
                Some(("id", id)) => config.id = id.to_owned(),
                Some(("queues", queues)) => {
                    config.queues =
                        queues.parse().with_context(|| format!("{queues:?} is no number of queues"))?;
                }
                _ => bail!("{word:?} is not understood; write {FORM}"),
            }
        }
        if config.socket.as_os_str().is_empty() {
            bail!("a disk of another process needs its socket: {FORM}");
        }
        Ok(Self(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_needs_a_socket() {
        let disk = |text: &str| {
            text.parse::<VhostUserDisk>()
                .map(|VhostUserDisk(config)| config)
                .map_err(|error| format!("{error:#}"))
        };
        assert_eq!(disk("socket=/s"), Ok(VhostUserBlockConfig::new("/s")));
        let full = VhostUserBlockConfig { id: "d".into(), queues: 2, ..VhostUserBlockConfig::new("/s") };
        assert_eq!(disk("socket=/s,id=d,queues=2"), Ok(full));
        for (bad, complaint) in [
            ("id=d", "needs its socket"),
            ("/s", "\"/s\" is not understood; write socket=PATH"),
            ("socket=/s,queues=x", "\"x\" is no number of queues"),
        ] {
            let error = disk(bad).unwrap_err();
            assert!(error.contains(complaint), "{bad}: {error}");
        }
    }
}
