//! `--disk FILE[,ro][,id=TEXT][,queues=N][,io=ENGINE][,cache=MODE][,bw=BYTES][,iops=N]`.

use std::str::FromStr;

use anyhow::{Context, bail};
use vmm::{CacheMode, DiskConfig, IoEngine, TokenBucketConfig};

use crate::format::parse_size;

/// How the flag is written.
pub(super) const FORM: &str =
    "FILE[,ro][,id=TEXT][,queues=N][,io=sync|async|auto][,cache=writeback|unsafe][,bw=BYTES][,iops=N]";

/// A disk as the flag describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Disk(pub(super) DiskConfig);

impl FromStr for Disk {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split(',');
        let mut config = DiskConfig::new(words.next().unwrap_or_default());
        let per_second = |tokens| Some(TokenBucketConfig::per_second(tokens));
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("ro", "") => config.read_only = true,
                ("id", id) => config.id = id.to_owned(),
                ("queues", queues) => {
                    config.queues =
                        queues.parse().with_context(|| format!("{queues:?} is no number of queues"))?;
                }
                ("io", "auto") => config.io_engine = IoEngine::Auto,
                ("io", "sync") => config.io_engine = IoEngine::Sync,
                ("io", "async") => config.io_engine = IoEngine::Async,
                ("cache", "writeback") => config.cache = CacheMode::Writeback,
                ("cache", "unsafe") => config.cache = CacheMode::Unsafe,
                ("bw", bytes) => {
                    let bytes =
                        parse_size(bytes).map_err(anyhow::Error::msg).context("bw is bytes per second")?;
                    config.rate_limiter.bandwidth = per_second(bytes);
                }
                ("iops", ops) => {
                    let ops = ops
                        .parse()
                        .with_context(|| format!("{ops:?} is no number of requests per second"))?;
                    config.rate_limiter.ops = per_second(ops);
                }
                _ => bail!("{word:?} is not understood; write {FORM}"),
            }
        }
        Ok(Self(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(text: &str) -> Result<DiskConfig, String> {
        text.parse::<Disk>().map(|Disk(config)| config).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn disks_are_writable_and_plain_unless_said_otherwise() {
        assert_eq!(disk("a.img"), Ok(DiskConfig::new("a.img")));
        assert_eq!(disk("a.img,ro"), Ok(DiskConfig { read_only: true, ..DiskConfig::new("a.img") }));
    }

    #[test]
    fn everything_can_be_said() {
        let mut wanted = DiskConfig::new("a.img");
        wanted.id = "root".to_owned();
        wanted.queues = 2;
        wanted.io_engine = IoEngine::Async;
        wanted.cache = CacheMode::Unsafe;
        wanted.rate_limiter.bandwidth = Some(TokenBucketConfig::per_second(10 << 20));
        wanted.rate_limiter.ops = Some(TokenBucketConfig::per_second(500));
        assert_eq!(disk("a.img,id=root,queues=2,io=async,cache=unsafe,bw=10m,iops=500"), Ok(wanted));
        for (bad, complaint) in [
            ("a.img,rw", "\"rw\" is not understood; write FILE"),
            ("a.img,ro=1", "\"ro=1\" is not understood"),
            ("a.img,io=threads", "\"io=threads\" is not understood"),
            ("a.img,queues=-1", "\"-1\" is no number of queues"),
            ("a.img,bw=fast", "bw is bytes per second"),
            ("a.img,iops=many", "\"many\" is no number of requests"),
        ] {
            let error = disk(bad).unwrap_err();
            assert!(error.contains(complaint), "{bad}: {error}");
        }
    }
}
