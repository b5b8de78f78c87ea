//! `carve oci VERB`: an OCI runtime, for people and for programs like podman and containerd that drive one.
//!
//! Chosen before the rest of the command line is known of, and before logs are set up: a runtime is started several
//! times for each container, and what is not touched costs no page. Called under the name `carve-oci` (a link to
//! the binary), the word `oci` is left out.

mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod log;
mod pause;
mod ps;
mod resume;
mod run;
mod spec;
mod start;
mod state;
mod update;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use container::runtime::{Inherited, Runtime, RuntimeError};

use crate::exit;
use log::{Log, LogFormat};

/// The name under which the binary is nothing but the runtime.
const OWN_NAME: &str = "carve-oci";

const EXAMPLES: &str = "\
Examples:
  carve oci spec --bundle web            a default config.json, to be changed
  carve oci run --bundle web web1        in the foreground
  carve oci create --bundle web web1     set up, and waiting
  carve oci start web1
  carve oci exec web1 ps                 a further program in it
  carve oci kill web1 TERM
  carve oci delete web1

Exit status: 0, or 1 with a message; `run` and `exec` give the program's own, `exec` 255 with a message.";

/// As other runtimes have it, for those who parse it.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\nspec: 1.2.0");

/// An OCI runtime (runtime specification 1.2): turns a bundle into a process
#[derive(Debug, Parser)]
#[command(name = "carve oci", bin_name = "carve oci", version = VERSION, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where the containers' state is kept [default: /run/carve-oci, or below $XDG_RUNTIME_DIR without root]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Write warnings to this file, and errors too
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// How to write them
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Say more, in the log or on standard error
    #[arg(long)]
    debug: bool,
    /// Refused: carve makes cgroups itself, and does not ask systemd for them
    #[arg(long)]
    systemd_cgroup: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a container, which then waits to be started
    Create(create::Args),
    /// Start the program of a created container
    Start(start::Args),
    /// Print a container's state, as JSON
    State(state::Args),
    /// Execute a further program in a container
    Exec(Box<exec::Args>),
    /// Send a signal to a container's first process
    Kill(kill::Args),
    /// Delete a container that has ended
    Delete(delete::Args),
    /// Create and start a container, wait for its end, and delete it
    Run(run::Args),
    /// Print the processes of a container
    Ps(ps::Args),
    /// Have all processes of a container stand still
    Pause(pause::Args),
    /// Have the processes of a paused container go on
    Resume(resume::Args),
    /// Change the limits of a container
    Update(Box<update::Args>),
    /// Print what a container uses, and when it runs out of memory
    Events(events::Args),
    /// List containers
    List(list::Args),
    /// Write a default config.json
    Spec(spec::Args),
    /// Print what this runtime can do, as JSON
    Features(features::Args),
}

impl Verb {
    /// How many descriptors the program is to get.
    fn preserved(&self) -> u32 {
        match self {
            Self::Create(args) => args.container.preserve_fds,
            Self::Run(args) => args.container.preserve_fds,
            Self::Exec(args) => args.preserve_fds,
            _ => 0,
        }
    }

    /// The exit status when it cannot be carried out: that of runc and crun.
    fn failed(&self) -> ExitCode {
        match self {
            Self::Exec(_) => ExitCode::from(255),
            _ => ExitCode::FAILURE,
        }
    }
}

/// What a verb ends with: the process's exit status.
type Outcome = anyhow::Result<u8>;

/// The arguments after the program's name, if this process was started to be a runtime.
pub(crate) fn asked_for() -> Option<Vec<OsString>> {
    let mut args = std::env::args_os();
    let name = args.next()?;
    let under_own_name = Path::new(&name).file_name().is_some_and(|name| name == OWN_NAME);
    if !under_own_name && args.next()? != "oci" {
        return None;
    }
    Some(args.collect())
}

/// Is one.
pub(crate) fn run(args: Vec<OsString>) -> ExitCode {
    exit::survive_closed_pipes();
    match parse([OsString::from("carve oci")].into_iter().chain(args)) {
        Ok(args) => carry_out_and_report(args),
        Err(error) => usage(&error),
    }
}

/// As `Args::try_parse_from`. Describing the command line, matching it and reading the matches are the most code that this
/// process ever runs, so each gives back what the one before has needed.
fn parse(args: impl Iterator<Item = OsString>) -> Result<Args, clap::Error> {
    let command = Args::command();
    container::runtime::give_back_code();
    let mut matches = command.try_get_matches_from(args)?;
    container::runtime::give_back_code();
    Args::from_arg_matches_mut(&mut matches)
}

/// As [`run`], with arguments that are parsed.
pub(crate) fn carry_out_and_report(args: Args) -> ExitCode {
    // Before this opens any file, which could be taken for one that was given to it.
    let inherited = Inherited::claim(args.verb.preserved());
    let failed = args.verb.failed();
    let log = match Log::start(args.log.as_deref(), args.log_format, args.debug) {
        Ok(log) => log,
        Err(error) => {
            complain(&format!("{error:#}"));
            return ExitCode::FAILURE;
        }
    };
    match carry_out(args, inherited) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            let message = exit::one_line(&error);
            log.error(&message);
            complain(&message);
            failed
        }
    }
}

/// On standard error. Nobody there to read it does not change what the command ends with.
fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "carve oci: {message}");
}

fn carry_out(args: Args, inherited: Result<Inherited, RuntimeError>) -> Outcome {
    if args.systemd_cgroup {
        anyhow::bail!(
            "--systemd-cgroup: cgroups are made by carve itself; leave the flag out (podman: cgroup_manager = \"cgroupfs\", \
             containerd: SystemdCgroup = false)"
        );
    }
    let runtime = Runtime::new(args.root.unwrap_or_else(default_root));
    match args.verb {
        Verb::Create(args) => create::run(&runtime, args, inherited?),
        Verb::Start(args) => start::run(&runtime, &args),
        Verb::Exec(args) => exec::run(&runtime, *args, inherited?),
        Verb::State(args) => state::run(&runtime, &args),
        Verb::Kill(args) => kill::run(&runtime, &args),
        Verb::Delete(args) => delete::run(&runtime, &args),
        Verb::Run(args) => run::run(&runtime, args, inherited?),
        Verb::Ps(args) => ps::run(&runtime, &args),
        Verb::Pause(args) => pause::run(&runtime, &args),
        Verb::Resume(args) => resume::run(&runtime, &args),
        Verb::Update(args) => update::run(&runtime, *args),
        Verb::Events(args) => events::run(&runtime, &args),
        Verb::List(args) => list::run(&runtime, &args),
        Verb::Spec(args) => spec::run(&args),
        Verb::Features(args) => features::run(&args),
    }
}

fn default_root() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if !rustix::process::geteuid().is_root() => Path::new(&dir).join("carve-oci"),
        _ => PathBuf::from("/run/carve-oci"),
    }
}

/// A command line that cannot be parsed, or a request for help.
fn usage(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell when even this cannot be printed.
    let _ = error.print();
    if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn flags_may_stand_before_or_after_the_id() {
        for line in [
            ["carve oci", "kill", "--all", "web", "KILL"],
            ["carve oci", "kill", "web", "--all", "KILL"],
            ["carve oci", "kill", "web", "KILL", "--all"],
        ] {
            assert!(Args::try_parse_from(line).is_ok(), "{line:?}");
        }
    }

    #[test]
    fn what_follows_the_command_is_the_commands() {
        for line in [
            "carve-oci exec --cwd /x -e A=b web ls --cwd -e",
            "carve-oci exec web --cwd /x -e A=b ls --cwd -e",
            "carve-oci exec --cwd=/x web -eA=b -- ls --cwd -e",
        ] {
            let args = Args::try_parse_from(line.split(' ')).unwrap();
            let Verb::Exec(exec) = args.verb else { panic!("{line}") };
            let changes = exec.changes().unwrap();
            assert_eq!(changes.args, ["ls", "--cwd", "-e"], "{line}");
            assert_eq!((changes.cwd, changes.env), (Some("/x".into()), vec!["A=b".to_owned()]), "{line}");
        }
    }
}
