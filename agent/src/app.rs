//! From the engine's description of a process to the running app.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use agent::protocol::Process;
use agent::user::{self, User, UserError};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::files::read_text;
use crate::sys::spawn::{Program, SpawnFailed, Step, spawn};

/// Where programs are looked for when the environment does not say (Docker's default for images).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How many files the app may have open, and may ask for: PID 1 is given 1024 and 4096 by the kernel, which is less
/// than servers are used to; these are systemd's.
const OPEN_FILES: Rlimit = Rlimit { current: Some(1024), maximum: Some(524_288) };

/// The running app and the agent's ends of its standard streams.
pub(crate) struct App {
    pub(crate) pid: i32,
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Why the app does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    #[error("no command given: name one, or use an image that has an entry point or a command")]
    NoCommand,
    #[error("{what} {value:?} contains a NUL byte")]
    Nul { what: &'static str, value: String },
    #[error(transparent)]
    User(#[from] UserError),
    #[error("cannot make working directory {path:?}: {error}")]
    MakeDirectory { path: String, error: Errno },
    #[error("cannot enter working directory {path:?}: {error}")]
    EnterDirectory { path: String, error: std::io::Error },
    #[error("cannot run {program:?}: {error}")]
    Exec { program: String, error: std::io::Error },
    #[error("cannot become user {user:?} (uid {uid}, gid {gid}): {error}")]
    BecomeUser { user: String, uid: u32, gid: u32, error: std::io::Error },
    #[error("cannot start a process: {0}")]
    Spawn(std::io::Error),
}

impl AppError {
    /// Docker's: 127 for a program that is not there, 126 for one that cannot be run, 125 for anything else.
    pub(crate) fn exit_code(&self) -> i32 {
        match self {
            Self::Exec { error, .. } if error.kind() == std::io::ErrorKind::NotFound => 127,
            Self::Exec { .. } | Self::EnterDirectory { .. } | Self::MakeDirectory { .. } => 126,
            _ => 125,
        }
    }
}

/// Starts the app in the root that the agent is in.
///
/// # Errors
/// [`AppError`], whose exit code tells what kind of failure it is.
pub(crate) fn start(process: &Process) -> Result<App, AppError> {
    let program = process.args.first().filter(|program| !program.is_empty()).ok_or(AppError::NoCommand)?;
    let user = user::resolve(&process.user, &read_text("/etc/passwd"), &read_text("/etc/group"))?;
    let env = environment(&process.env, &user.home);
    let candidates = c_strings("program", &candidates(program, &env))?;
    let args = c_strings("argument", &process.args)?;
    let env = c_strings("environment variable", &env)?;
    let cwd = if process.cwd.is_empty() { "/" } else { &process.cwd };
    make_path(cwd)?;
    let cwd = c_string("working directory", cwd)?;
    allow_the_usual(&user);
    let pipes = Pipes::new(&user).map_err(|e| AppError::Spawn(e.into()))?;
    let pid = spawn(&Program {
        candidates: &candidates,
        args: &args,
        env: &env,
        cwd: &cwd,
        stdio: [pipes.app[0].as_fd(), pipes.app[1].as_fd(), pipes.app[2].as_fd()],
        uid: user.uid,
        gid: user.gid,
        groups: &user.additional_gids,
    })
    .map_err(|failed| explain(failed, process, program, &user))?;
    let [stdin, stdout, stderr] = pipes.agent;
    Ok(App { pid, stdin, stdout, stderr })
}

fn explain(failed: SpawnFailed, process: &Process, program: &str, user: &User) -> AppError {
    let error = failed.error;
    match failed.step {
        Step::Exec => AppError::Exec { program: program.to_owned(), error },
        Step::WorkingDirectory => AppError::EnterDirectory { path: process.cwd.clone(), error },
        Step::User => {
            AppError::BecomeUser { user: process.user.clone(), uid: user.uid, gid: user.gid, error }
        }
        Step::Clone | Step::Prepare => AppError::Spawn(error),
    }
}

/// The image's environment, with a home directory where it names none.
fn environment(env: &[String], home: &str) -> Vec<String> {
    let mut env = env.to_vec();
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={home}"));
    }
    env
}

/// The paths that may hold `program`, as execvp(3) tries them.
fn candidates(program: &str, env: &[String]) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let directories = path.split(':').map(|directory| if directory.is_empty() { "." } else { directory });
    directories.map(|directory| format!("{directory}/{program}")).collect()
}

fn c_strings(what: &'static str, texts: &[String]) -> Result<Vec<CString>, AppError> {
    texts.iter().map(|text| c_string(what, text)).collect()
}

fn c_string(what: &'static str, text: &str) -> Result<CString, AppError> {
    CString::new(text).map_err(|_| AppError::Nul { what, value: text.to_owned() })
}

/// Makes the working directory and what leads to it, where absent, as Docker does.
fn make_path(path: &str) -> Result<(), AppError> {
    let exists = rustix::fs::access(path, rustix::fs::Access::EXISTS).is_ok();
    if exists {
        return Ok(());
    }
    let starts = path.match_indices('/').map(|(at, _)| at).filter(|&at| at > 0).chain([path.len()]);
    for end in starts {
        match rustix::fs::mkdir(&path[..end], rustix::fs::Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(AppError::MakeDirectory { path: path.to_owned(), error }),
        }
    }
    Ok(())
}

/// What a container's app may do and a plain Linux would refuse: many open files, and low ports without root. The app
/// may well not need them, so a refusal is not its end.
fn allow_the_usual(user: &User) {
    let _ = setrlimit(Resource::Nofile, OPEN_FILES);
    if user.uid != 0 {
        let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    }
}

/// Both ends of the app's standard streams.
struct Pipes {
    app: [OwnedFd; 3],
    agent: [OwnedFd; 3],
}

impl Pipes {
    fn new(user: &User) -> Result<Self, Errno> {
        let (stdin, to_stdin) = pipe_with(PipeFlags::CLOEXEC)?;
        let (from_stdout, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (from_stderr, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let app = [stdin, stdout, stderr];
        if user.uid != 0 {
            // So that the app may open /dev/stdout, which leads to its pipe.
            for end in &app {
                rustix::fs::fchown(end, Some(rustix::fs::Uid::from_raw(user.uid)), None)?;
            }
        }
        Ok(Self { app, agent: [to_stdin, from_stdout, from_stderr] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn programs_are_looked_up_as_execvp_does() {
        let cases: [(&str, &[&str], &[&str]); 5] = [
            ("/bin/sh", &["PATH=/a"], &["/bin/sh"]),
            ("./run", &["PATH=/a"], &["./run"]),
            ("sh", &["PATH=/a:/b/c"], &["/a/sh", "/b/c/sh"]),
            ("sh", &["PATH=:/b"], &["./sh", "/b/sh"]),
            ("sh", &["XPATH=/a", "PATH="], &["./sh"]),
        ];
        for (program, env, expected) in cases {
            assert_eq!(candidates(program, &strings(env)), strings(expected), "{program} {env:?}");
        }
        assert_eq!(candidates("sh", &[]).last().map(String::as_str), Some("/bin/sh"));
    }

    #[test]
    fn home_is_the_users_unless_the_image_says_otherwise() {
        assert_eq!(environment(&strings(&["A=b"]), "/home/x"), strings(&["A=b", "HOME=/home/x"]));
        assert_eq!(environment(&strings(&["HOME=/y"]), "/home/x"), strings(&["HOME=/y"]));
    }

    #[test]
    fn exit_codes_are_dockers() {
        let exec =
            |errno| AppError::Exec { program: "x".into(), error: std::io::Error::from_raw_os_error(errno) };
        assert_eq!(exec(libc::ENOENT).exit_code(), 127);
        assert_eq!(exec(libc::EACCES).exit_code(), 126);
        assert_eq!(exec(libc::ENOEXEC).exit_code(), 126);
        assert_eq!(AppError::NoCommand.exit_code(), 125);
    }

    #[test]
    fn working_directories_are_made_and_errors_name_them() {
        let dir = tempfile::tempdir().expect("dir");
        let path = format!("{}/a/b//c", dir.path().display());
        make_path(&path).expect("made");
        make_path(&path).expect("there already");
        assert!(std::path::Path::new(&path).is_dir());
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("written");
        let below = format!("{}/x", file.display());
        assert!(make_path(&below).expect_err("refused").to_string().contains(&below));
    }

    #[test]
    fn a_nul_byte_is_an_error_that_says_where() {
        let error = c_strings("argument", &strings(&["a", "b\0c"])).expect_err("refused");
        assert_eq!(error.to_string(), "argument \"b\\0c\" contains a NUL byte");
    }
}
