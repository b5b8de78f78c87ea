//! Descriptors that a configuration names by number: each process has numbers of its own.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::config::{TapSource, VmConfig};
use crate::sys::inherited;

/// Takes a duplicate of every descriptor that `config` names, and puts its place in the result where its number was.
///
/// # Errors
/// There is no descriptor of that number.
pub(super) fn collect(config: &mut VmConfig) -> std::io::Result<Vec<OwnedFd>> {
    let mut descriptors = Vec::new();
    for number in numbers(config) {
        let place = RawFd::try_from(descriptors.len()).unwrap_or(RawFd::MAX);
        descriptors.push(inherited::duplicate(*number)?);
        *number = place;
    }
    Ok(descriptors)
}

/// The other way round, in the other process: puts the numbers of `descriptors` where their places were.
pub(super) fn resolve(config: &mut VmConfig, descriptors: &[OwnedFd]) {
    for place in numbers(config) {
        let found = usize::try_from(*place).ok().and_then(|place| descriptors.get(place));
        // No process has a descriptor -1, which is then what the error names.
        *place = found.map_or(-1, AsRawFd::as_raw_fd);
    }
}

fn numbers(config: &mut VmConfig) -> impl Iterator<Item = &mut RawFd> {
    config.nets.iter_mut().filter_map(|net| match &mut net.tap {
        TapSource::Fd(number) => Some(number),
        TapSource::Name(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NetConfig;

    #[test]
    fn numbers_become_places_and_numbers_again() {
        let (one, two) = std::io::pipe().unwrap();
        let mut config = VmConfig::new("vmlinux", 64);
        let taps = [
            TapSource::Fd(two.as_raw_fd()),
            TapSource::Name("tap0".to_owned()),
            TapSource::Fd(one.as_raw_fd()),
        ];
        config.nets = taps.into_iter().map(NetConfig::new).collect();
        let descriptors = collect(&mut config).unwrap();
        let taps = |config: &VmConfig| config.nets.iter().map(|net| net.tap.clone()).collect::<Vec<_>>();
        assert_eq!(taps(&config), [TapSource::Fd(0), TapSource::Name("tap0".to_owned()), TapSource::Fd(1)]);
        resolve(&mut config, &descriptors);
        assert_eq!(taps(&config)[0], TapSource::Fd(descriptors[0].as_raw_fd()));
        assert_eq!(taps(&config)[2], TapSource::Fd(descriptors[1].as_raw_fd()));
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
