//! `--net tap=NAME[,mac=ADDRESS][,mtu=BYTES][,bw=BYTES/S][,iops=FRAMES/S]`; limits are for each direction.

use std::str::FromStr;

use anyhow::{Context, bail};
use vmm::virtio::TokenBucketConfig;
use vmm::{NetConfig, TapSource};

/// A network card as the flag describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Net(pub(super) NetConfig);

impl FromStr for Net {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut config = NetConfig::new(TapSource::Name(String::new()));
        let mut tap = None;
        for word in text.split(',') {
            match word.split_once('=') {
                Some(("tap", name)) => tap = Some(name.to_owned()),
                Some(("mac", address)) => config.mac = Some(address.parse()?),
                Some(("mtu", bytes)) => {
                    config.mtu = bytes.parse().with_context(|| format!("{bytes:?} is no MTU"))?;
                }
                Some(("bw", bytes)) => config.rx_rate_limiter.bandwidth = Some(per_second(bytes)?),
                Some(("iops", frames)) => config.rx_rate_limiter.ops = Some(per_second(frames)?),
                _ => bail!("{word:?} is not understood; write tap=NAME[,mac=…][,mtu=…][,bw=…][,iops=…]"),
            }
        }
        config.tx_rate_limiter = config.rx_rate_limiter;
        config.tap = TapSource::Name(tap.context("a network card needs a tap: tap=NAME")?);
        Ok(Self(config))
    }
}

fn per_second(text: &str) -> anyhow::Result<TokenBucketConfig> {
    let number = text.parse().with_context(|| format!("{text:?} is no number per second"))?;
    Ok(TokenBucketConfig::per_second(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_the_tap_may_be_left_out() {
        let net = |text: &str| text.parse::<Net>().map(|Net(config)| config).map_err(|e| format!("{e:#}"));
        let plain = net("tap=tap0").unwrap();
        assert_eq!(plain, NetConfig::new(TapSource::Name("tap0".to_owned())));
        let full = net("tap=t,mac=02:00:00:00:00:01,mtu=9000").unwrap();
        assert_eq!((full.mac.unwrap().to_string(), full.mtu), ("02:00:00:00:00:01".to_owned(), 9000));
        let limited = net("tap=t,bw=1000000,iops=500").unwrap();
        assert_eq!(limited.rx_rate_limiter.bandwidth, Some(TokenBucketConfig::per_second(1_000_000)));
        assert_eq!(limited.tx_rate_limiter.ops, Some(TokenBucketConfig::per_second(500)));
        for (bad, complaint) in [
            ("mtu=1500", "needs a tap"),
            ("tap0", "\"tap0\" is not understood"),
            ("tap=t,mtu=70000", "\"70000\" is no MTU"),
            ("tap=t,mac=x", "\"x\" is no hardware address"),
            ("tap=t,bw=fast", "\"fast\" is no number per second"),
            ("tap=t,speed=1", "\"speed=1\" is not understood"),
        ] {
            let error = net(bad).unwrap_err();
            assert!(error.contains(complaint), "{bad}: {error}");
        }
    }
}
