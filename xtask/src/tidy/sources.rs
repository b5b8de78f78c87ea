//! The Rust files of the workspace.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use cargo_metadata::Metadata;

/// A file's path in the checkout, and its text.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Reads every Rust file below the workspace's crates, sorted by path.
///
/// # Errors
/// What cannot be read.
pub(crate) fn read(root: &Path, metadata: &Metadata) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for package in metadata.workspace_packages() {
        let dir = package.manifest_path.parent().context("a manifest is in a directory")?;
        collect(root, dir.as_std_path(), &mut sources)?;
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

fn collect(root: &Path, dir: &Path, sources: &mut Vec<Source>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            sources.push(Source { path, text });
        }
    }
    Ok(())
}
