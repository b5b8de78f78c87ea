//! `carve oci ps ID [PS-ARGUMENT…]`.

use std::process::Command;

use anyhow::{Context, bail};
use container::runtime::Runtime;

use super::Outcome;

const EXAMPLES: &str = "\
Examples:
  carve oci ps web1
  carve oci ps web1 -o pid,rss,comm
  carve oci ps --format json web1";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
    /// Arguments for ps(1), which must make it print a column PID
    #[arg(
        value_name = "PS-ARGUMENT",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        default_value = "-ef"
    )]
    ps: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// What ps(1) says of them
    Table,
    /// Their ids, as one JSON list
    Json,
}

pub(super) fn run(runtime: &Runtime, args: &Args) -> Outcome {
    let pids = runtime.processes(&args.id)?;
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&pids)?),
        Format::Table => {
            let output = Command::new("ps").args(&args.ps).output();
            let output = output.context("cannot run ps (package procps); `--format json` does without")?;
            if !output.status.success() {
                bail!("ps {}: {}", args.ps.join(" "), String::from_utf8_lossy(&output.stderr).trim());
            }
            print!("{}", only(&String::from_utf8_lossy(&output.stdout), &pids)?);
        }
    }
    Ok(0)
}

/// The first line and those of these processes.
fn only(table: &str, pids: &[i32]) -> anyhow::Result<String> {
    let header = table.lines().next().unwrap_or_default();
    let column = header.split_whitespace().position(|word| word == "PID");
    let column =
        column.context("ps prints no column PID with these arguments; add it, as with -o pid,comm")?;
    let of_ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse::<i32>().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    let lines = table.lines().take(1).chain(table.lines().skip(1).filter(of_ours));
    Ok(lines.map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_processes_are_shown() {
        let table =
            "UID   PID  PPID CMD\nroot    1     0 init\nroot   17     1 sleep 17\nroot  171    17 sh\n";
        assert_eq!(only(table, &[17]).unwrap(), "UID   PID  PPID CMD\nroot   17     1 sleep 17\n");
        assert!(only("USER CMD\nroot init\n", &[1]).unwrap_err().to_string().contains("PID"));
    }
}
