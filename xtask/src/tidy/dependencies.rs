//! The crates' dependencies on each other point one way only.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use cargo_metadata::Metadata;

/// What each crate may use of ours: the table of the design.
const TABLE: [(&str, &[&str]); 9] = [
    ("agent", &[]),
    ("bench", &[]),
    ("cli", &["agent", "bench", "container", "engine", "image", "vmm"]),
    ("container", &[]),
    ("engine", &["agent", "container", "image", "vmm"]),
    ("image", &[]),
    ("tests", &[]),
    ("vmm", &[]),
    ("xtask", &[]),
];

/// The crates of the workspace, each with those of ours that it names, for whatever purpose.
pub(crate) fn of(metadata: &Metadata) -> BTreeMap<String, Vec<String>> {
    let ours = metadata.workspace_packages();
    let is_ours = |name: &str| ours.iter().any(|package| package.name.as_str() == name);
    let uses = ours.iter().map(|package| {
        let used = package.dependencies.iter().map(|d| d.name.clone()).filter(|name| is_ours(name));
        (package.name.to_string(), used.collect())
    });
    uses.collect()
}

/// Holds the crates against the table.
pub(crate) fn check(crates: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, uses) in crates {
        match TABLE.iter().find(|(row, _)| row == name) {
            None => findings.push(format!(
                "crate {name} is not in the dependency table (xtask/src/tidy/dependencies.rs)"
            )),
            Some((_, allowed)) => {
                let wrong = uses.iter().filter(|used| !allowed.contains(&used.as_str()));
                findings.extend(wrong.map(|used| format!("crate {name} may not use {used}")));
            }
        }
    }
    let gone = TABLE.iter().filter(|(row, _)| !crates.contains_key(*row));
    findings.extend(
        gone.map(|(row, _)| format!("crate {row} is in the dependency table but not in the workspace")),
    );
    findings
}

/// Every crate has the workspace's lints, among them the denial of unsafe code.
///
/// # Errors
/// A manifest that cannot be read.
pub(crate) fn check_lints(metadata: &Metadata) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for package in metadata.workspace_packages() {
        let text = fs::read_to_string(&package.manifest_path)
            .with_context(|| format!("cannot read {}", package.manifest_path))?;
        if !text.contains("[lints]\nworkspace = true") {
            findings.push(format!("crate {} lacks `[lints] workspace = true`", package.name));
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_the_table() -> BTreeMap<String, Vec<String>> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        TABLE.iter().map(|(name, uses)| ((*name).to_owned(), owned(uses))).collect()
    }

    #[test]
    fn what_the_table_allows_passes() {
        assert_eq!(check(&as_the_table()), Vec::<String>::new());
    }

    #[test]
    fn a_forbidden_use_a_new_crate_and_a_lost_one_are_found() {
        let mut crates = as_the_table();
        crates.get_mut("vmm").expect("there").push("container".into());
        crates.insert("extra".into(), Vec::new());
        crates.remove("bench");
        let findings = check(&crates).join("\n");
        for part in ["vmm may not use container", "crate extra is not", "bench is in the dependency table"] {
            assert!(findings.contains(part), "{findings}");
        }
    }

    #[test]
    fn the_table_has_no_cycle() {
        let uses = |name: &str| TABLE.iter().find(|(row, _)| *row == name).map_or(&[][..], |(_, uses)| *uses);
        for (name, direct) in TABLE {
            let mut reached: Vec<&str> = direct.to_vec();
            let mut at = 0;
            while at < reached.len() {
                let next = uses(reached[at]);
                reached
                    .extend(next.iter().filter(|used| !reached.contains(used)).copied().collect::<Vec<_>>());
                at += 1;
            }
            assert!(!reached.contains(&name), "{name} uses itself by way of {reached:?}");
        }
    }
}
