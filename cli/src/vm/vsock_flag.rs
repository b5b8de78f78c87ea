//! `--vsock PATH[,cid=NUMBER]`.

use std::str::FromStr;

use anyhow::Context;
use vmm::VsockConfig;

/// The guest's address if none is given; each machine has a socket of its own, so all can have the same.
const CID: u32 = 3;

/// A socket device as the flag describes it.
#[derive(Debug, Clone)]
pub(super) struct Vsock(pub(super) VsockConfig);

impl FromStr for Vsock {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (path, cid) = match text.rsplit_once(",cid=") {
            None => (text, CID),
            Some((path, cid)) => (path, cid.parse().with_context(|| format!("{cid:?} is no CID"))?),
        };
        Ok(Self(VsockConfig::new(cid, path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_may_be_left_out() {
        let vsock = |text: &str| text.parse::<Vsock>().map(|Vsock(config)| (config.uds_path, config.cid));
        assert_eq!(vsock("v.sock").unwrap(), ("v.sock".into(), 3));
        assert_eq!(vsock("a,b.sock,cid=7").unwrap(), ("a,b.sock".into(), 7));
        assert!(vsock("v.sock,cid=x").unwrap_err().to_string().contains("\"x\" is no CID"));
    }
}
