//! Descriptors that a configuration names by number: each process has numbers of its own.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use crate::config::{TapSource, VmConfig};
use crate::sys::inherited;
use crate::virtio::Tap;

/// Takes a duplicate of every descriptor that `config` names, opens the taps that it names, which are in this network
/// namespace and not in a jail's, and puts the place in the result where number or name was.
///
/// # Errors
/// There is no descriptor of that number, or no tap of that name.
pub(super) fn collect(config: &mut VmConfig) -> io::Result<Vec<OwnedFd>> {
    let mut descriptors = Vec::new();
    for net in &mut config.nets {
        let place = RawFd::try_from(descriptors.len()).unwrap_or(RawFd::MAX);
        descriptors.push(match &net.tap {
            TapSource::Fd(number) => inherited::duplicate(*number)?,
            named @ TapSource::Name(_) => {
                Tap::open(named).map_err(io::Error::other)?.as_fd().try_clone_to_owned()?
            }
        });
        net.tap = TapSource::Fd(place);
    }
    Ok(descriptors)
}

/// The other way round, in the other process: puts the numbers of `descriptors` where their places were.
pub(super) fn resolve(config: &mut VmConfig, descriptors: &[OwnedFd]) {
    for net in &mut config.nets {
        let TapSource::Fd(place) = &mut net.tap else { continue };
        let found = usize::try_from(*place).ok().and_then(|place| descriptors.get(place));
        // No process has a descriptor -1, which is then what the error names.
        *place = found.map_or(-1, AsRawFd::as_raw_fd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NetConfig;

    #[test]
    fn numbers_become_places_and_numbers_again() {
        let (one, two) = std::io::pipe().unwrap();
        let mut config = VmConfig::new("vmlinux", 64);
        let taps = [TapSource::Fd(two.as_raw_fd()), TapSource::Fd(one.as_raw_fd())];
        config.nets = taps.into_iter().map(NetConfig::new).collect();
        let descriptors = collect(&mut config).unwrap();
        let taps = |config: &VmConfig| config.nets.iter().map(|net| net.tap.clone()).collect::<Vec<_>>();
        assert_eq!(taps(&config), [TapSource::Fd(0), TapSource::Fd(1)]);
        resolve(&mut config, &descriptors);
        assert_eq!(taps(&config)[0], TapSource::Fd(descriptors[0].as_raw_fd()));
        assert_eq!(taps(&config)[1], TapSource::Fd(descriptors[1].as_raw_fd()));
    }

    #[test]
    fn a_place_that_is_not_there_is_no_descriptor() {
        let mut config = VmConfig::new("vmlinux", 64);
        config.nets = vec![NetConfig::new(TapSource::Fd(3))];
        resolve(&mut config, &[]);
        assert_eq!(config.nets[0].tap, TapSource::Fd(-1));
        assert!(collect(&mut config).is_err());
    }
}
