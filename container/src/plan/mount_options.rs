//! The words in a mount's `options`: flags of the mount, its propagation, and data for its filesystem.
//!
//! The words are those of mount(8) and of the runtime specification's table of mount options; one with an `r` in
//! front applies to all mounts below as well.

use libc::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_STRICTATIME,
};

use crate::sys::MountAttr;

/// The options of one mount, sorted by what they act on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    /// `Some(recursive)` when the source is a path to be bound.
    pub(crate) bind: Option<bool>,
    /// Flags of this mount alone.
    pub(crate) attr: MountAttr,
    /// Flags of this mount and all below it.
    pub(crate) attr_recursive: MountAttr,
    /// `Some(recursive)` when ids are to be mapped.
    pub(crate) idmap: Option<bool>,
    /// What is mounted there already is changed, instead of mounting something.
    pub(crate) remount: bool,
    /// A new tmpfs gets what the image has in its place.
    pub(crate) copy_up: bool,
    /// Flags and parameters of the filesystem, in order.
    pub(crate) data: Vec<(String, Option<String>)>,
}

/// An option that is known and cannot be had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) &'static str);

impl MountOptions {
    /// Sorts the words of `options`.
    pub(crate) fn parse<'a>(
        options: impl IntoIterator<Item = &'a String>,
    ) -> Result<Self, (String, Refused)> {
        let mut parsed = Self::default();
        for option in options {
            parsed.add(option).map_err(|refused| (option.clone(), refused))?;
        }
        Ok(parsed)
    }

    fn add(&mut self, option: &str) -> Result<(), Refused> {
        match option {
            "defaults" | "async" | "mand" | "nomand" | "" => {}
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "remount" => self.remount = true,
            "idmap" => self.idmap = Some(self.idmap.unwrap_or(false)),
            "ridmap" => self.idmap = Some(true),
            "tmpcopyup" => self.copy_up = true,
            _ if option.contains('\0') => return Err(Refused("holds a NUL byte")),
            _ => self.add_flag_or_data(option),
        }
        Ok(())
    }

    fn add_flag_or_data(&mut self, option: &str) {
        if let Some(change) = flag(option) {
            change.apply(&mut self.attr);
        } else if let Some(change) = option.strip_prefix('r').and_then(flag) {
            change.apply(&mut self.attr_recursive);
        } else {
            let (key, value) = match option.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (option, None),
            };
            self.data.push((key.to_owned(), value));
        }
    }
}

enum Change {
    Set(u64),
    Clear(u64),
    AccessTime(u64),
    Propagation(u64),
}

impl Change {
    fn apply(&self, attr: &mut MountAttr) {
        match *self {
            Self::Set(bit) => {
                attr.set |= bit;
                attr.clear &= !bit;
            }
            Self::Clear(bit) => {
                attr.clear |= bit;
                attr.set &= !bit;
            }
            // The kernel wants the whole field cleared when any of its values is set.
            Self::AccessTime(value) => {
                attr.set = attr.set & !(MOUNT_ATTR__ATIME) | value;
                attr.clear |= MOUNT_ATTR__ATIME;
            }
            Self::Propagation(value) => attr.propagation = value,
        }
    }
}

fn flag(option: &str) -> Option<Change> {
    use Change::{AccessTime, Clear, Propagation, Set};
    Some(match option {
        "ro" => Set(MOUNT_ATTR_RDONLY),
        "rw" => Clear(MOUNT_ATTR_RDONLY),
        "nosuid" => Set(MOUNT_ATTR_NOSUID),
        "suid" => Clear(MOUNT_ATTR_NOSUID),
        "nodev" => Set(MOUNT_ATTR_NODEV),
        "dev" => Clear(MOUNT_ATTR_NODEV),
        "noexec" => Set(MOUNT_ATTR_NOEXEC),
        "exec" => Clear(MOUNT_ATTR_NOEXEC),
        "nodiratime" => Set(MOUNT_ATTR_NODIRATIME),
        "diratime" => Clear(MOUNT_ATTR_NODIRATIME),
        "nosymfollow" => Set(MOUNT_ATTR_NOSYMFOLLOW),
        "symfollow" => Clear(MOUNT_ATTR_NOSYMFOLLOW),
        "relatime" | "atime" => AccessTime(0),
        "norelatime" | "strictatime" => AccessTime(MOUNT_ATTR_STRICTATIME),
        "nostrictatime" => AccessTime(0),
        "noatime" => AccessTime(MOUNT_ATTR_NOATIME),
        "private" => Propagation(libc::MS_PRIVATE),
        "slave" => Propagation(libc::MS_SLAVE),
        "shared" => Propagation(libc::MS_SHARED),
        "unbindable" => Propagation(libc::MS_UNBINDABLE),
        _ => return None,
    })
}

/// Whether a word is known, and no data for a filesystem.
#[cfg(test)]
pub(crate) fn is_mount_word(word: &str) -> bool {
    MountOptions::parse([&word.to_owned()]).is_ok_and(|parsed| parsed.data.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Result<MountOptions, (String, Refused)> {
        MountOptions::parse(&options.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn flags_propagation_and_data_are_told_apart() {
        let parsed = parse(&["nosuid", "ro", "rw", "mode=755", "newinstance", "rprivate", "rro"]).unwrap();
        assert_eq!(parsed.attr.set, MOUNT_ATTR_NOSUID);
        assert_eq!(parsed.attr.clear, MOUNT_ATTR_RDONLY);
        assert_eq!(parsed.attr_recursive.set, MOUNT_ATTR_RDONLY);
        assert_eq!(parsed.attr_recursive.propagation, libc::MS_PRIVATE);
        assert_eq!(parsed.data, [("mode".into(), Some("755".into())), ("newinstance".into(), None)]);
    }

    #[test]
    fn the_last_access_time_option_wins() {
        let parsed = parse(&["noatime", "strictatime"]).unwrap();
        assert_eq!(parsed.attr.set, MOUNT_ATTR_STRICTATIME);
        assert_eq!(parsed.attr.clear, MOUNT_ATTR__ATIME);
    }

    #[test]
    fn rbind_is_recursive_in_whatever_order() {
        assert_eq!(parse(&["bind"]).unwrap().bind, Some(false));
        assert_eq!(parse(&["rbind", "bind"]).unwrap().bind, Some(true));
        assert_eq!(parse(&["ro"]).unwrap().bind, None);
    }

    #[test]
    fn all_eight_kinds_of_propagation_are_known() {
        for (option, value) in [
            ("private", libc::MS_PRIVATE),
            ("slave", libc::MS_SLAVE),
            ("shared", libc::MS_SHARED),
            ("unbindable", libc::MS_UNBINDABLE),
        ] {
            assert_eq!(parse(&[option]).unwrap().attr.propagation, value);
            assert_eq!(parse(&[&format!("r{option}")]).unwrap().attr_recursive.propagation, value);
        }
    }

    #[test]
    fn words_that_are_no_flags_are_kept_apart() {
        let parsed = parse(&["ridmap", "idmap", "tmpcopyup", "remount"]).unwrap();
        assert_eq!((parsed.idmap, parsed.copy_up, parsed.remount), (Some(true), true, true));
        assert!(parsed.data.is_empty());
        assert_eq!(parse(&["a\0b"]).unwrap_err().0, "a\0b");
    }
}
