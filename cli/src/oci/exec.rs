//! `carve oci exec ID COMMAND [ARGS…]`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use container::runtime::{Exec, ExecProcess, Inherited, ProcessChanges, Runtime};

use super::{Outcome, create};

const EXAMPLES: &str = "\
Examples:
  carve oci exec web1 ps
  carve oci exec --tty web1 sh
  carve oci exec --user 1000:1000 --env GREETING=hello web1 sh -c 'echo $GREETING'
  carve oci exec --detach --pid-file tail.pid web1 tail -f /log
  carve oci exec --process process.json web1

Exit status: the program's own, 128 + N when signal N ended it; 255 when there is none.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A file with the process, as JSON, instead of COMMAND and the flags that change it
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Give the process a terminal
    #[arg(short, long)]
    tty: bool,
    /// Send that terminal to this socket; without one, it is joined to this command's
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Leave once it runs
    #[arg(short, long)]
    detach: bool,
    /// Write the process's id to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Another working directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// A further variable of the environment
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Another user
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// A further group
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// A further capability
    #[arg(short, long, value_name = "NAME")]
    cap: Vec<String>,
    /// Allow no execution to give it more rights
    #[arg(long)]
    no_new_privs: bool,
    /// Pass this many descriptors from 3 up on to the program
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) preserve_fds: u32,
    /// Make the process in a paused container too, where it waits with the others
    #[arg(long)]
    ignore_paused: bool,
    /// Refused unless empty: there is no support for AppArmor
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// Refused unless empty: there is no support for SELinux
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, required_unless_present = "process")]
    command: Vec<String>,
}

pub(super) fn run(runtime: &Runtime, args: Args, inherited: Inherited) -> Outcome {
    for (flag, value) in [("--apparmor", &args.apparmor), ("--process-label", &args.process_label)] {
        if value.as_ref().is_some_and(|value| !value.is_empty()) {
            bail!("{flag}: no AppArmor or SELinux support in this runtime; leave it out");
        }
    }
    let process = match &args.process {
        Some(path) => ExecProcess::File(path.clone()),
        None => ExecProcess::Changed(args.changes()?),
    };
    let options = Exec {
        process,
        stdio: create::own_streams()?,
        pid_file: args.pid_file,
        terminal: args.tty,
        console_socket: args.console_socket,
        detach: args.detach,
        inherited,
        ignore_paused: args.ignore_paused,
    };
    let status = runtime.exec(&args.id, options)?;
    Ok(u8::try_from(status).unwrap_or(u8::MAX))
}

impl Args {
    pub(super) fn changes(&self) -> anyhow::Result<ProcessChanges> {
        Ok(ProcessChanges {
            args: self.command.clone(),
            cwd: self.cwd.clone(),
            env: self.env.clone(),
            user: self.user.as_deref().map(parse_user).transpose()?,
            additional_gids: self.additional_gids.clone(),
            capabilities: self.cap.clone(),
            no_new_privileges: self.no_new_privs,
        })
    }
}

/// `UID` or `UID:GID`: a runtime looks no names up.
fn parse_user(text: &str) -> anyhow::Result<(u32, Option<u32>)> {
    let number = |part: &str| {
        part.parse::<u32>().with_context(|| format!("--user {text:?}: must be UID or UID:GID, in numbers"))
    };
    match text.split_once(':') {
        None => Ok((number(text)?, None)),
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_given_by_numbers() {
        assert_eq!(parse_user("5").unwrap(), (5, None));
        assert_eq!(parse_user("5:6").unwrap(), (5, Some(6)));
        for text in ["", "root", "5:", ":6", "5:6:7", "-1", "4294967296"] {
            let error = parse_user(text).unwrap_err().to_string();
            assert!(error.contains("UID:GID"), "{text}: {error}");
        }
    }
}
