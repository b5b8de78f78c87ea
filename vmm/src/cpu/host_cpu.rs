//! What the host says of its CPU, in `/proc/cpuinfo`.

use std::fs::File;
use std::io::Read;

/// Bytes of it that are read: the first processor's part fits well.
const FIRST: usize = 8192;

/// The host's first processor, which stands for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostCpu {
    /// What it calls itself.
    pub(crate) model: String,
    /// Whether it has VT-x or SVM. Where nothing is known it has: then nothing is probed.
    pub(crate) has_virtualisation: bool,
}

impl HostCpu {
    /// Asks the host, whose /proc must be there.
    pub(crate) fn read() -> Self {
        let mut start = [0; FIRST];
        let len = File::open("/proc/cpuinfo").and_then(|mut file| file.read(&mut start)).unwrap_or(0);
        Self::parse(&String::from_utf8_lossy(start.get(..len).unwrap_or_default()))
    }

    fn parse(cpuinfo: &str) -> Self {
        let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
        let is_virtualisation = |flag| flag == "vmx" || flag == "svm";
        Self {
            model: name.map_or_else(|| "CPU of unknown model".to_owned(), |(_, name)| name.trim().to_owned()),
            has_virtualisation: flags.is_none_or(|line| line.split_whitespace().any(is_virtualisation)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_of_the_first_processor_decide() {
        let has = |cpuinfo| HostCpu::parse(cpuinfo).has_virtualisation;
        assert!(has("processor : 0\nflags\t\t: fpu vmx sse\n"));
        assert!(has("flags\t\t: fpu svm\nflags\t\t: fpu\n"));
        assert!(!has("flags\t\t: fpu svm_lock vmxx\n"));
        assert!(has("no flags here"), "an unknown format is left alone");
    }

    #[test]
    fn it_has_a_name_or_none() {
        let name = |cpuinfo| HostCpu::parse(cpuinfo).model;
        assert_eq!(name("model\t\t: 1\nmodel name\t: A CPU: fast \nmodel name\t: B\n"), "A CPU: fast");
        assert_eq!(name(""), "CPU of unknown model");
        assert_eq!(HostCpu::read(), HostCpu::read());
    }
}
