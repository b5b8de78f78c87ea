//! The fields of `config.json` that are not honoured yet, each refused by name.

use oci_spec::runtime::{Linux, Process, Spec};

use super::BundleError;

const NO_SELINUX: &str = "is a label of SELinux, which this runtime does not speak to; remove it";
const NO_RDT: &str = "classes of service of resctrl are not made by this runtime; remove it";
const LATER: &str = "not supported by this runtime; remove it";

/// Refuses a configuration that asks for something this runtime would otherwise silently not do.
pub(crate) fn refuse_unsupported(spec: &Spec) -> Result<(), BundleError> {
    for (field, present) in [
        ("vm", spec.vm().is_some()),
        ("windows", spec.windows().is_some()),
        ("solaris", spec.solaris().is_some()),
        ("zos", spec.zos().is_some()),
    ] {
        refuse(present, field, LATER)?;
    }
    if let Some(process) = spec.process() {
        refuse_unsupported_process(process)?;
    }
    if let Some(linux) = spec.linux() {
        refuse_in_linux(linux)?;
    }
    Ok(())
}

/// Refuses a process that asks for something this runtime would otherwise silently not do.
pub(crate) fn refuse_unsupported_process(process: &Process) -> Result<(), BundleError> {
    let no_lsm = "no AppArmor or SELinux support in this runtime; remove it";
    let named = |label: &Option<String>| label.as_ref().is_some_and(|l| !l.is_empty());
    refuse(named(process.apparmor_profile()), "process.apparmorProfile", no_lsm)?;
    refuse(named(process.selinux_label()), "process.selinuxLabel", no_lsm)
}

fn refuse_in_linux(linux: &Linux) -> Result<(), BundleError> {
    refuse(linux.intel_rdt().is_some(), "linux.intelRdt", NO_RDT)?;
    refuse(linux.mount_label().as_ref().is_some_and(|l| !l.is_empty()), "linux.mountLabel", NO_SELINUX)?;
    Ok(())
}

fn refuse(present: bool, field: &str, reason: &'static str) -> Result<(), BundleError> {
    if present {
        return Err(BundleError::Unsupported { field: field.to_owned(), reason });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_honoured_is_refused_by_name() {
        let cases = [
            (r#"{"process": {"apparmorProfile": "x", "user": {}, "cwd": "/"}}"#, "process.apparmorProfile"),
            (r#"{"process": {"selinuxLabel": "x", "user": {}, "cwd": "/"}}"#, "process.selinuxLabel"),
            (r#"{"linux": {"intelRdt": {}}}"#, "linux.intelRdt"),
            (r#"{"linux": {"mountLabel": "system_u:object_r:x:s0"}}"#, "linux.mountLabel"),
        ];
        for (json, expected) in cases {
            let spec: Spec = serde_json::from_str(json).unwrap();
            match refuse_unsupported(&spec) {
                Err(BundleError::Unsupported { field, .. }) => assert_eq!(field, expected, "{json}"),
                other => panic!("{json}: {other:?}"),
            }
        }
    }

    #[test]
    fn empty_labels_and_joined_networks_are_fine() {
        let json = r#"{"process": {"apparmorProfile": "", "terminal": false, "user": {}, "cwd": "/"},
            "linux": {"timeOffsets": {}, "namespaces": [{"type": "network", "path": "/x"}]}}"#;
        let spec: Spec = serde_json::from_str(json).unwrap();
        assert!(refuse_unsupported(&spec).is_ok());
    }
}
