//! Runs the bundle in a directory to its end: `run_bundle DIR [ID]`, with this process's own streams, like
//! `crun run -b DIR ID`. For timing and tracing a start without the engine around it.

#![expect(clippy::print_stderr, reason = "an example is a program")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use container::{Bundle, Container, CreateOptions};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(dir) = args.next() else {
        eprintln!("usage: run_bundle DIR [ID]");
        return ExitCode::from(2);
    };
    let id = args.next().unwrap_or_else(|| format!("example-{}", std::process::id()));
    match run(Path::new(&dir), &id) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(255)),
        Err(error) => {
            eprintln!("run_bundle: {error}");
            ExitCode::from(125)
        }
    }
}

fn run(dir: &Path, id: &str) -> Result<i32, Box<dyn std::error::Error>> {
    let stdio = [own(io::stdin())?, own(io::stdout())?, own(io::stderr())?];
    let options = CreateOptions::new(stdio, Path::new("/carve").join(id));
    let mut container = container::create(&Bundle::load(dir)?, id, options)?;
    let ended = start_and_wait(&mut container);
    container.delete()?;
    ended
}

fn start_and_wait(container: &mut Container) -> Result<i32, Box<dyn std::error::Error>> {
    if let Err(error) = container.start() {
        eprintln!("run_bundle: {error}");
        return Ok(error.exit_code());
    }
    Ok(container.wait()?.code())
}

fn own(stream: impl AsFd) -> io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}
