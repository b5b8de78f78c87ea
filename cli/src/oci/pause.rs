//! `carve oci pause ID`.

use container::runtime::Runtime;

use super::Outcome;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  carve oci pause web1")]
pub(crate) struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

pub(super) fn run(runtime: &Runtime, args: &Args) -> Outcome {
    runtime.pause(&args.id)?;
    Ok(0)
}
