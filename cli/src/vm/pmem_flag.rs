//! `--pmem FILE[,ro][,root]`.

use std::str::FromStr;

use anyhow::bail;
use vmm::PmemConfig;

/// How the flag is written.
pub(super) const FORM: &str = "FILE[,ro][,root]";

/// An image in the guest's physical memory as the flag describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pmem(pub(super) PmemConfig);

impl FromStr for Pmem {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split(',');
        let path = words.next().unwrap_or_default().into();
        let mut config = PmemConfig { path, ..PmemConfig::default() };
        for word in words {
            match word {
                "ro" => config.read_only = true,
                "root" => config.root_device = true,
                _ => bail!("{word:?} is not understood; write {FORM}"),
            }
        }
        Ok(Self(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_writable_and_not_the_root_unless_said_otherwise() {
        let pmem = |text: &str| text.parse::<Pmem>().map(|Pmem(config)| config).map_err(|e| e.to_string());
        let plain = PmemConfig { path: "a.img".into(), ..PmemConfig::default() };
        assert_eq!(pmem("a.img").unwrap(), plain);
        let root = PmemConfig { read_only: true, root_device: true, ..plain };
        assert_eq!(pmem("a.img,ro,root").unwrap(), root);
        assert!(pmem("a.img,rw").unwrap_err().contains("\"rw\" is not understood; write FILE"));
    }
}
