//! `carve oci features`.

use super::Outcome;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  carve oci features")]
pub(crate) struct Args {}

pub(super) fn run(Args {}: &Args) -> Outcome {
    println!("{}", serde_json::to_string_pretty(&container::runtime::features())?);
    Ok(0)
}
