//! `carve monitor ID`: owns one instance. Hidden, because only `run` starts it.

use std::path::Path;

use crate::exit::Exit;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The instance's id
    id: String,
}

pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<Exit> {
    engine::monitor::run(root, &args.id)?;
    Ok(Exit::Success)
}
