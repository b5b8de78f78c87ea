//! `carve oci kill ID [SIGNAL]`.

use container::runtime::{Runtime, parse_signal};

use super::Outcome;

const EXAMPLES: &str = "\
Examples:
  carve oci kill web1
  carve oci kill web1 KILL
  carve oci kill --all web1 9";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Send it to all processes of the container
    #[arg(short, long)]
    all: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
    /// A signal's name or number
    #[arg(value_name = "SIGNAL", default_value = "TERM")]
    signal: String,
}

pub(super) fn run(runtime: &Runtime, args: &Args) -> Outcome {
    runtime.kill(&args.id, parse_signal(&args.signal)?, args.all)?;
    Ok(0)
}
