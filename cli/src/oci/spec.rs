//! `carve oci spec`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

use container::spec::{default_spec, rootless_spec};

use super::Outcome;

const EXAMPLES: &str = "\
Examples:
  carve oci spec
  carve oci spec --bundle web
  carve oci spec --rootless";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The directory to write config.json to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// For a user other than root: in a user namespace whose root is that user, without limits
    #[arg(long)]
    rootless: bool,
}

pub(super) fn run(args: &Args) -> Outcome {
    let path = args.bundle.join("config.json");
    let spec = if args.rootless { rootless_spec() } else { default_spec() };
    let json = serde_json::to_string_pretty(&spec)?;
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    file.and_then(|mut file| file.write_all(json.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(0)
}
