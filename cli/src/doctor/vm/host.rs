//! Facts of the host that a bug report needs.

use std::fs::read_to_string;
use std::path::Path;

use vmm::{Engine, KvmSurvey};

/// The modules that may be behind /dev/kvm.
const MODULES: [&str; 3] = ["kvm_intel", "kvm_amd", "kvm_pvm"];

/// What is known of it, by name.
pub(super) fn facts(survey: Option<&KvmSurvey>) -> Vec<(&'static str, String)> {
    let cpuinfo = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut facts = vec![
        ("carve", env!("CARGO_PKG_VERSION").to_owned()),
        ("kernel", line("/proc/sys/kernel/osrelease")),
        ("CPU", format!("{}, {} of them", field(&cpuinfo, "model name"), count_cpus(&cpuinfo))),
        ("microcode", field(&cpuinfo, "microcode").to_owned()),
        ("virtualisation", virtualisation(&cpuinfo)),
        ("KVM", modules()),
        (
            "engine",
            match Engine::Auto.on_this_host() {
                Engine::Soft => "auto takes soft",
                _ => "auto takes kvm",
            }
            .to_owned(),
        ),
    ];
    if let Some(survey) = survey {
        let (has, lacks): (Vec<_>, Vec<_>) = survey.capabilities.iter().partition(|(_, has)| *has);
        let names =
            |list: Vec<&(&str, bool)>| list.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
        facts.push(("KVM has", names(has)));
        facts.push(("KVM lacks", names(lacks)));
        facts.push(("repairs (kvm)", repairs(survey.emulates_kernels).to_owned()));
    }
    facts
}

fn repairs(emulates_kernels: bool) -> &'static str {
    if emulates_kernels {
        "needed, as KVM emulates kernels: int3, x87, XSAVE and SYSCALL completed, words on the command line"
    } else {
        "none: KVM does not emulate kernels"
    }
}

fn line(path: &str) -> String {
    read_to_string(path).map_or_else(|e| e.to_string(), |text| text.trim().to_owned())
}

/// A field of the first processor.
fn field<'a>(cpuinfo: &'a str, name: &str) -> &'a str {
    let pairs = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let found = pairs.into_iter().find(|(key, _)| key.trim() == name);
    found.map_or("unknown", |(_, value)| value.trim())
}

fn count_cpus(cpuinfo: &str) -> usize {
    cpuinfo.lines().filter(|line| line.starts_with("processor")).count()
}

fn virtualisation(cpuinfo: &str) -> String {
    let flags: Vec<_> = field(cpuinfo, "flags").split_whitespace().collect();
    let has = |flag: &str| flags.contains(&flag);
    let kind = if has("vmx") {
        "VT-x"
    } else if has("svm") {
        "SVM"
    } else {
        "none"
    };
    let place = if has("hypervisor") { "itself a virtual machine" } else { "bare metal" };
    format!("{kind}; this host is {place}")
}

/// The modules of KVM that there are.
fn modules() -> String {
    let there: Vec<_> =
        MODULES.into_iter().filter(|name| Path::new("/sys/module").join(name).exists()).collect();
    if there.is_empty() { "no module known to us".to_owned() } else { there.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPUINFO: &str = "processor\t: 0\nmodel name\t: A CPU: fast\nflags\t\t: fpu svm hypervisor\n\n\
                           processor\t: 1\nmodel name\t: Another\nflags\t\t: fpu\n";

    #[test]
    fn facts_are_those_of_the_first_processor() {
        assert_eq!(field(CPUINFO, "model name"), "A CPU: fast");
        assert_eq!(field(CPUINFO, "microcode"), "unknown");
        assert_eq!(count_cpus(CPUINFO), 2);
        assert_eq!(virtualisation(CPUINFO), "SVM; this host is itself a virtual machine");
        assert_eq!(virtualisation("flags : fpu vmx"), "VT-x; this host is bare metal");
    }
}
