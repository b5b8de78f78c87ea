//! The taps of a machine, which the parent opens: in a jail there is neither /dev nor the host's network.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::config::{TapSource, VmConfig};
use crate::sys::inherited;
use crate::virtio::Tap;

/// The tap of each network card of `config`, in their order: a duplicate of the descriptor that it names, or opened by
/// its name.
///
/// # Errors
/// There is no descriptor of that number, or no tap of that name.
pub(super) fn taps(config: &VmConfig) -> io::Result<Vec<OwnedFd>> {
    config.nets.iter().map(|net| tap(&net.tap)).collect()
}

/// One tap.
///
/// # Errors
/// As for [`taps`].
pub(super) fn tap(source: &TapSource) -> io::Result<OwnedFd> {
    match source {
        TapSource::Fd(number) => inherited::duplicate(*number),
        TapSource::Name(_) => Tap::open(source).map_err(io::Error::other)?.as_fd().try_clone_to_owned(),
    }
}

/// In the other process: gives each network card of `config` its tap.
pub(super) fn give(config: &mut VmConfig, taps: &[OwnedFd]) {
    let numbers = taps.iter().map(AsRawFd::as_raw_fd);
    // No process has a descriptor -1, which is then what the error names.
    for (net, number) in config.nets.iter_mut().zip(numbers.chain(std::iter::repeat(-1))) {
        net.tap = TapSource::Fd(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NetConfig;

    #[test]
    fn each_card_gets_its_own() {
        let (one, two) = std::io::pipe().unwrap();
        let mut config = VmConfig::new("vmlinux", 64);
        let sources = [TapSource::Fd(two.as_raw_fd()), TapSource::Fd(one.as_raw_fd())];
        config.nets = sources.into_iter().map(NetConfig::new).collect();
        let mut taps = taps(&config).unwrap();
        taps.truncate(1);
        give(&mut config, &taps);
        assert_eq!(config.nets[0].tap, TapSource::Fd(taps[0].as_raw_fd()));
        assert_eq!(config.nets[1].tap, TapSource::Fd(-1), "one that did not come");
        assert!(super::taps(&config).is_err());
    }
}
