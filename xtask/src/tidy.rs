//! `cargo xtask tidy`: what the design promises of the source, held against the source.
//!
//! Each check is a file of its own and returns what it found, one line a finding: [`dependencies`], [`versions`],
//! [`paths`], [`unsafe_code`], [`length`].

mod dependencies;
mod length;
mod paths;
mod sources;
mod unsafe_code;
mod versions;

use std::fs;

use anyhow::{Context, Result, bail};
use cargo_metadata::MetadataCommand;

use crate::workspace;

/// Runs every check.
///
/// # Errors
/// Everything found, one line each.
pub(crate) fn run() -> Result<()> {
    let root = workspace::root();
    let read =
        |name: &str| fs::read_to_string(root.join(name)).with_context(|| format!("cannot read {name}"));
    let map = read("ARCHITECTURE.md")?;
    let metadata = MetadataCommand::new().current_dir(root).no_deps().exec()?;
    let sources = sources::read(root, &metadata)?;
    let findings = [
        dependencies::check(&dependencies::of(&metadata)),
        dependencies::check_lints(&metadata)?,
        versions::check(&read("Cargo.lock")?),
        paths::check(&map, |path| root.join(path).exists()),
        unsafe_code::check(&map, &sources),
        length::check(&sources),
    ]
    .concat();
    if !findings.is_empty() {
        bail!("{} findings:\n{}", findings.len(), findings.join("\n"));
    }
    Ok(())
}
