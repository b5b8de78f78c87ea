//! `carve oci spec`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

use super::Outcome;

const EXAMPLES: &str = "\
Examples:
  carve oci spec
  carve oci spec --bundle web";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The directory to write config.json to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
}

pub(super) fn run(args: &Args) -> Outcome {
    let path = args.bundle.join("config.json");
    let json = serde_json::to_string_pretty(&container::spec::default_spec())?;
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    file.and_then(|mut file| file.write_all(json.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(0)
}
