//! `carve oci state ID`.

use container::runtime::Runtime;

use super::Outcome;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  carve oci state web1")]
pub(crate) struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

pub(super) fn run(runtime: &Runtime, args: &Args) -> Outcome {
    println!("{}", serde_json::to_string_pretty(&runtime.state(&args.id)?)?);
    Ok(0)
}
