//! `carve oci run ID`.

use container::runtime::{Inherited, Runtime};

use super::{Outcome, create::ContainerArgs};

const EXAMPLES: &str = "\
Examples:
  carve oci run --bundle web web1
  carve oci run --bundle web --detach web1

Exit status: the program's own, 128 + N when signal N ended it; 1 when there is no container.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) container: ContainerArgs,
    /// Leave once it runs; it stays until it is deleted
    #[arg(short, long)]
    detach: bool,
}

pub(super) fn run(runtime: &Runtime, args: Args, inherited: Inherited) -> Outcome {
    let id = args.container.id.clone();
    let options = args.container.into_options(inherited)?;
    if args.detach {
        runtime.create(&id, options)?;
        return match runtime.start(&id) {
            Ok(()) => Ok(0),
            Err(error) => {
                runtime.delete(&id, true)?;
                Err(error.into())
            }
        };
    }
    let status = runtime.run(&id, options, |_pid| ())?;
    Ok(u8::try_from(status).unwrap_or(u8::MAX))
}
