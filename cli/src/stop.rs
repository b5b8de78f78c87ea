//! `carve stop NAME…`: ends running instances.

use std::path::Path;

use engine::Engine;

use crate::exit::Exit;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  carve stop web\n  carve stop --time 0 web    at once")]
pub(crate) struct Args {
    /// Seconds between SIGTERM and the end by force
    #[arg(short, long, default_value_t = 10, value_name = "SECONDS")]
    time: u32,
    /// Names or ids
    #[arg(required = true, value_name = "INSTANCE")]
    instances: Vec<String>,
}

pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<Exit> {
    let engine = Engine::open(root)?;
    for name in &args.instances {
        engine.stop(name, args.time)?;
        println!("{name}");
    }
    Ok(Exit::Success)
}
