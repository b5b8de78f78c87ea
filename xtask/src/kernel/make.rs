//! The kernel's own build: configuring, compiling with the progress shown, stripping.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::progress::Progress;

/// How many lines of the log an error quotes.
const QUOTED_LINES: usize = 20;

/// The compiler's and the linker's versions: part of the cache key.
pub(super) fn toolchain() -> Result<String> {
    let mut versions = String::new();
    for program in ["gcc", "ld"] {
        let output = Command::new(program).arg("--version").env("LC_ALL", "C").output().with_context(|| {
            format!("run {program}; `cargo xtask setup` installs the compiler (apt-get install build-essential)")
        })?;
        versions.push_str(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default());
        versions.push('\n');
    }
    Ok(versions)
}

/// Writes `.config`: everything off but what the merged fragments ask for and what that needs.
pub(super) fn configure(tree: &Path, merged: &Path, log: &Path) -> Result<()> {
    let mut command = make(tree);
    command.arg("allnoconfig").env("KCONFIG_ALLCONFIG", merged);
    run_logged(command, log, |_| ())
}

/// Compiles `vmlinux` on all CPUs. What an interrupted run left is taken up again.
pub(super) fn vmlinux(tree: &Path, log: &Path, flags: &[&str]) -> Result<()> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = make(tree);
    command.arg(format!("-j{jobs}")).args(flags).arg("vmlinux");
    let mut progress = Progress::start();
    run_logged(command, log, |line| {
        if let Some(object) = compiled_object(line) {
            progress.object_built(object);
        }
    })?;
    progress.finish();
    Ok(())
}

/// Copies the ELF file without symbols and debug information: what is loaded stays, with the PVH note.
pub(super) fn strip(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("strip").arg("--strip-all").arg("-o").arg(to).arg(from).status();
    let status = status.context("run strip; `cargo xtask setup` installs it (apt-get install binutils)")?;
    if !status.success() {
        bail!("strip failed on {} ({status})", from.display());
    }
    Ok(())
}

/// `make` in `tree`, sheltered from the caller's environment; the build's host, user and time are the same
/// everywhere, so that equal inputs give equal kernels.
fn make(tree: &Path) -> Command {
    let mut command = Command::new("make");
    command.arg("-C").arg(tree).env("LC_ALL", "C").stdin(Stdio::null());
    for name in
        ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ARCH", "CROSS_COMPILE", "CC", "LD", "LLVM", "KBUILD_OUTPUT"]
    {
        command.env_remove(name);
    }
    command
        .env("KBUILD_BUILD_USER", "carve")
        .env("KBUILD_BUILD_HOST", "carve")
        .env("KBUILD_BUILD_VERSION", "1")
        .env("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 2026");
    command
}

/// Runs `command`, appends what it says to `log` and hands each line of its standard output to `on_line`.
fn run_logged(mut command: Command, log: &Path, mut on_line: impl FnMut(&str)) -> Result<()> {
    let mut file = open_log(log)?;
    let errors = file.try_clone().with_context(|| format!("share {}", log.display()))?;
    let mut child = command.stdout(Stdio::piped()).stderr(errors).spawn().with_context(|| {
        "run make; `cargo xtask setup` installs it (apt-get install build-essential bc bison flex libelf-dev)"
    })?;
    let output = child.stdout.take().context("make has no standard output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("read what make says")?;
        file.write_all(&line)
            .and_then(|()| file.write_all(b"\n"))
            .with_context(|| format!("write {}", log.display()))?;
        on_line(&String::from_utf8_lossy(&line));
    }
    let status = child.wait().context("wait for make")?;
    if status.success() {
        return Ok(());
    }
    let text = fs::read(log).unwrap_or_default();
    bail!(
        "the kernel build failed ({status}); the whole log is {}, its end:\n{}",
        log.display(),
        last_lines(&String::from_utf8_lossy(&text), QUOTED_LINES)
    )
}

fn open_log(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

/// The object that a line of kbuild's short output announces, if it is one of those worth counting.
fn compiled_object(line: &str) -> Option<&str> {
    let (verb, object) = line.trim_start().split_once(char::is_whitespace)?;
    matches!(verb, "CC" | "AS").then_some(object.trim_start())
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_compiled_objects_are_counted() {
        assert_eq!(compiled_object("  CC      kernel/fork.o"), Some("kernel/fork.o"));
        assert_eq!(compiled_object("  AS      arch/x86/entry/entry_64.o"), Some("arch/x86/entry/entry_64.o"));
        assert_eq!(compiled_object("  AR      kernel/built-in.a"), None);
        assert_eq!(compiled_object("make: Entering directory '/x'"), None);
        assert_eq!(compiled_object(""), None);
    }

    #[test]
    fn an_error_quotes_the_end_of_the_log() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a\n", 2), "a");
        assert_eq!(last_lines("", 2), "");
    }

    #[test]
    fn a_failed_command_names_its_log_and_quotes_it() {
        let log = std::env::temp_dir().join(format!("carve-make-{}.log", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "echo '  CC      a.o'; echo 'no space left' >&2; exit 2"]);
        let mut seen = Vec::new();
        let error = run_logged(command, &log, |line| seen.push(line.to_owned())).unwrap_err().to_string();
        assert!(error.contains("no space left") && error.contains(&*log.to_string_lossy()), "{error}");
        assert_eq!(seen, ["  CC      a.o"]);
        fs::remove_file(&log).unwrap();
    }
}
