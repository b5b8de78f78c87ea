//! `carve oci delete ID`.

use container::runtime::{Runtime, RuntimeError};

use super::Outcome;

const EXAMPLES: &str = "\
Examples:
  carve oci delete web1
  carve oci delete --force web1    end it first; no error when there is none";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// End the container first, if it runs
    #[arg(short, long)]
    force: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

pub(super) fn run(runtime: &Runtime, args: &Args) -> Outcome {
    match runtime.delete(&args.id, args.force) {
        Err(RuntimeError::NotFound { .. }) if args.force => Ok(0),
        result => Ok(result.map(|()| 0)?),
    }
}
