//! `--fs socket=PATH,tag=NAME[,queues=N]`.

use std::str::FromStr;

use anyhow::{Context, bail};
use vmm::FsConfig;

/// How the flag is written.
pub(super) const FORM: &str = "socket=PATH,tag=NAME[,queues=N]";

/// A directory that virtiofsd serves as the flag describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fs(pub(super) FsConfig);

impl FromStr for Fs {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut config = FsConfig::new("", "");
        for word in text.split(',') {
            match word.split_once('=') {
                Some(("socket", path)) => config.socket = path.into(),
                Some(("tag", tag)) => config.tag = tag.to_owned(),
                Some(("queues", queues)) => {
                    config.queues =
                        queues.parse().with_context(|| format!("{queues:?} is no number of queues"))?;
                }
                _ => bail!("{word:?} is not understood; write {FORM}"),
            }
        }
        if config.socket.as_os_str().is_empty() || config.tag.is_empty() {
            bail!("a shared directory needs its socket and its tag: {FORM}");
        }
        Ok(Self(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_needs_a_socket_and_a_tag() {
        let fs =
            |text: &str| text.parse::<Fs>().map(|Fs(config)| config).map_err(|error| format!("{error:#}"));
        assert_eq!(fs("socket=/s,tag=t"), Ok(FsConfig::new("t", "/s")));
        assert_eq!(fs("tag=t,queues=2,socket=/s"), Ok(FsConfig { queues: 2, ..FsConfig::new("t", "/s") }));
        for (bad, complaint) in [
            ("socket=/s", "needs its socket and its tag"),
            ("tag=t", "needs its socket and its tag"),
            ("/s", "\"/s\" is not understood; write socket=PATH"),
            ("socket=/s,tag=t,queues=x", "\"x\" is no number of queues"),
        ] {
            let error = fs(bad).unwrap_err();
            assert!(error.contains(complaint), "{bad}: {error}");
        }
    }
}
