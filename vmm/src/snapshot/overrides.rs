//! What is to be different when a machine starts from a snapshot: the host's side of its devices.

use std::path::PathBuf;

use crate::config::{TapSource, VmConfig};

/// Names on this host for devices of a snapshot. A device is called by its name, or by its number among its like,
/// counted from 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Files for disks.
    pub disks: Vec<(String, PathBuf)>,
    /// Taps for network cards.
    pub nets: Vec<(String, TapSource)>,
    /// The Unix socket of the socket device.
    pub vsock: Option<PathBuf>,
}

/// The snapshot's machine has no such device.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot's machine has no {kind} {id:?}; it has {there}")]
pub struct NoSuchDevice {
    kind: &'static str,
    id: String,
    there: String,
}

impl Overrides {
    /// Puts the names into `config`.
    ///
    /// # Errors
    /// It has no device for one of them.
    pub fn apply(self, config: &mut VmConfig) -> Result<(), NoSuchDevice> {
        for (id, path) in self.disks {
            let index = find("disk", &id, config.disks.iter().map(|disk| &*disk.id))?;
            config.disks[index].path = path;
        }
        for (id, tap) in self.nets {
            let index = find("network card", &id, config.nets.iter().map(|net| &*net.id))?;
            config.nets[index].tap = tap;
        }
        if let Some(path) = self.vsock {
            let vsock = config.vsock.as_mut().ok_or_else(|| NoSuchDevice {
                kind: "socket device for",
                id: path.display().to_string(),
                there: "none".to_owned(),
            })?;
            vsock.uds_path = path;
        }
        Ok(())
    }
}

/// The place of the device that `id` calls.
fn find<'a>(
    kind: &'static str,
    id: &str,
    names: impl ExactSizeIterator<Item = &'a str> + Clone,
) -> Result<usize, NoSuchDevice> {
    let by_number = || id.parse().ok().filter(|number| *number < names.len());
    names.clone().position(|name| name == id).or_else(by_number).ok_or_else(|| {
        let there: Vec<_> = names
            .enumerate()
            .map(|(number, name)| if name.is_empty() { number.to_string() } else { name.to_owned() })
            .collect();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        NoSuchDevice { kind, id: id.to_owned(), there }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DiskConfig, NetConfig};

    #[test]
    fn devices_are_called_by_name_or_number() {
        let mut config = VmConfig::new("k", 64);
        config.disks = vec![DiskConfig::new("a"), DiskConfig::new("b")];
        config.disks[1].id = "data".to_owned();
        config.nets = vec![NetConfig::new(TapSource::Name("tap0".into()))];
        let overrides = |disk: &str| Overrides {
            disks: vec![(disk.to_owned(), "other".into())],
            nets: vec![("0".to_owned(), TapSource::Name("tap7".into()))],
            vsock: None,
        };
        overrides("0").apply(&mut config).unwrap();
        overrides("data").apply(&mut config).unwrap();
        assert!(config.disks.iter().all(|disk| disk.path.as_os_str() == "other"));
        assert_eq!(config.nets[0].tap, TapSource::Name("tap7".into()));
        let error = overrides("2").apply(&mut config).unwrap_err().to_string();
        assert_eq!(error, "the snapshot's machine has no disk \"2\"; it has 0, data");
        let vsock = Overrides { vsock: Some("v".into()), ..Overrides::default() };
        assert!(vsock.apply(&mut config).unwrap_err().to_string().contains("no socket device"));
    }
}
