//! `carve stats NAME`: what an instance uses, as JSON.

use std::path::Path;

use engine::{Engine, control};
use serde_json::json;

use crate::exit::Exit;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  carve stats web")]
pub(crate) struct Args {
    /// Name or id
    instance: String,
}

pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<Exit> {
    let instance = Engine::open(root)?.find(&args.instance)?;
    println!("{:#}", json!({ "name": instance.name, "guest": control::stats(&instance)? }));
    Ok(Exit::Success)
}
