//! What the figures were measured on.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::process::Command;

use serde::Serialize;

use crate::command::capture;
use crate::engines::QEMU;

/// The host. What could not be found out is absent.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Host {
    pub(crate) cpu: Option<String>,
    pub(crate) cpus: usize,
    /// Whether the CPU offers virtualisation to KVM.
    pub(crate) hardware_virtualisation: bool,
    pub(crate) kernel: Option<String>,
    pub(crate) qemu: Option<String>,
}

impl Host {
    /// Reads /proc, and asks QEMU for its version.
    pub(crate) fn read() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let qemu = capture(Command::new(QEMU).arg("--version")).ok();
        Self {
            cpu: field(&cpuinfo, "model name").map(str::to_owned),
            cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            hardware_virtualisation: field(&cpuinfo, "flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "vmx" || flag == "svm")),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned()),
            qemu: qemu
                .and_then(|output| String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)),
        }
    }
}

impl Display for Host {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let or_unknown = |what: &Option<String>| what.clone().unwrap_or_else(|| "unknown".to_owned());
        let hardware = if self.hardware_virtualisation { "with" } else { "without" };
        let (cpu, kernel) = (or_unknown(&self.cpu), or_unknown(&self.kernel));
        write!(f, "{} × {cpu}, {hardware} hardware virtualisation, Linux {kernel}", self.cpus)
    }
}

/// The load before and after, in words.
pub(crate) fn loads(load: [Option<f64>; 2]) -> String {
    let [before, after] =
        load.map(|load| load.map_or_else(|| "unknown".to_owned(), |load| format!("{load:.1}")));
    format!("load {before} before, {after} after")
}

/// Processes that run or want to, on average over the last minute.
pub(crate) fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// The first value of a field of /proc/cpuinfo.
fn field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    let fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    fields
        .map(|(key, value)| (key.trim(), value.trim()))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_cpuinfo_are_found_by_their_whole_name() {
        let text = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: A CPU: fast\nflags\t\t: fpu vmx\n";
        assert_eq!(field(text, "model name"), Some("A CPU: fast"));
        assert_eq!(field(text, "model"), Some("85"));
        assert_eq!(field(text, "name"), None);
    }

    #[test]
    fn what_could_not_be_found_out_is_unknown() {
        let host = Host {
            cpu: None,
            cpus: 2,
            hardware_virtualisation: false,
            kernel: Some("6.1.0".to_owned()),
            qemu: None,
        };
        assert_eq!(host.to_string(), "2 × unknown, without hardware virtualisation, Linux 6.1.0");
        assert_eq!(loads([Some(0.25), None]), "load 0.2 before, unknown after");
    }
}
