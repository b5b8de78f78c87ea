//! Starts the app: `clone(CLONE_VM | CLONE_VFORK)`, then exec in the child.
//!
//! fork(2) would copy the agent's page tables and fault on every page either side touches, at 2 to 10 ms a fault in
//! a guest without hardware assistance. Here the child borrows the agent's memory while the agent is suspended,
//! makes system calls only, allocates nothing, and leaves by exec or `_exit`.
#![expect(unsafe_code, reason = "clone(2) and the system calls of a child that shares its parent's memory")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Room for the child, in bytes: its frames and those of the C library's thin wrappers.
const STACK: usize = 16 << 10;

/// What to run, and as whom.
pub(crate) struct Program<'a> {
    /// Paths to try, in order.
    pub(crate) candidates: &'a [CString],
    /// The arguments, the program's name first.
    pub(crate) args: &'a [CString],
    /// `NAME=value` strings.
    pub(crate) env: &'a [CString],
    /// Working directory.
    pub(crate) cwd: &'a CStr,
    /// Standard input, output and error; none of them may be one of descriptors 0 to 2.
    pub(crate) stdio: [BorrowedFd<'a>; 3],
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
    /// Supplementary group ids.
    pub(crate) groups: &'a [u32],
}

/// The step at which the child failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// There was no child.
    Clone,
    /// Session, signal mask or standard descriptors.
    Prepare,
    /// Entering the working directory.
    WorkingDirectory,
    /// Becoming the user.
    User,
    /// exec: none of the candidates ran.
    Exec,
}

/// A child that did not come to run its program.
#[derive(Debug)]
pub(crate) struct SpawnFailed {
    /// Where it failed.
    pub(crate) step: Step,
    /// With what.
    pub(crate) error: io::Error,
}

/// Runs the program and returns its process id once exec has succeeded.
///
/// # Errors
/// The step that failed and the kernel's answer; the child is gone then, but not reaped.
pub(crate) fn spawn(program: &Program<'_>) -> Result<i32, SpawnFailed> {
    let argv = pointers(program.args);
    let envp = pointers(program.env);
    let mut child = Child { program, argv: &argv, envp: &envp, failed: None };
    // 16-byte units, as the ABI wants the stack aligned; nothing but what the child uses of it is ever touched.
    let mut stack = Vec::<u128>::with_capacity(STACK / size_of::<u128>());
    let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: `top` is the end of a live, aligned allocation; `child` is live and, as CLONE_VFORK suspends this thread
    // until the child has left, not accessed from two sides; `run_child` matches the type and never unwinds.
    let pid = unsafe { libc::clone(run_child, top.cast(), flags, (&raw mut child).cast()) };
    if pid < 0 {
        return Err(SpawnFailed { step: Step::Clone, error: io::Error::last_os_error() });
    }
    match child.failed {
        None => Ok(pid),
        Some((step, errno)) => Err(SpawnFailed { step, error: io::Error::from_raw_os_error(errno) }),
    }
}

/// What the child needs, and where it says why it failed.
struct Child<'a> {
    program: &'a Program<'a>,
    argv: &'a [*const c_char],
    envp: &'a [*const c_char],
    failed: Option<(Step, c_int)>,
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

extern "C" fn run_child(child: *mut c_void) -> c_int {
    // SAFETY: the pointer that `spawn` passed, which nothing else uses while the parent is suspended.
    let child = unsafe { &mut *child.cast::<Child<'_>>() };
    let step = child.go();
    child.failed = Some((step, errno()));
    // SAFETY: leaves without running the parent's exit handlers.
    unsafe { libc::_exit(127) }
}

impl Child<'_> {
    /// Returns only on failure, with `errno` telling the reason.
    fn go(&self) -> Step {
        if !prepare(self.program.stdio) {
            return Step::Prepare;
        }
        // As root: Docker, too, enters a directory that the user may not be allowed into.
        // SAFETY: the path is a valid C string.
        if unsafe { libc::chdir(self.program.cwd.as_ptr()) } != 0 {
            return Step::WorkingDirectory;
        }
        if !self.become_user() {
            return Step::User;
        }
        self.exec();
        Step::Exec
    }

    /// By system call, as the C library's wrappers would try to change the parent's threads, too.
    fn become_user(&self) -> bool {
        let Program { uid, gid, groups, .. } = *self.program;
        // SAFETY: pointer and length describe `groups`.
        let grouped = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) } == 0;
        // SAFETY: three numbers.
        let group = grouped && unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) } == 0;
        // SAFETY: three numbers.
        group && unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) } == 0
    }

    /// As execvp(3): a candidate that is not there or not permitted gives way to the next, and "not permitted" is
    /// remembered. access(2) first, as a failing exec has set up a whole address space before it looks for the file.
    fn exec(&self) {
        let mut answer = libc::ENOENT;
        for candidate in self.program.candidates {
            // SAFETY: the path is a valid C string.
            let reachable = unsafe { libc::access(candidate.as_ptr(), libc::X_OK) } == 0;
            if reachable {
                // SAFETY: path and both arrays are valid C strings, the arrays end with a null pointer, and all
                // outlive the call.
                unsafe { libc::execve(candidate.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
            }
            match errno() {
                libc::ENOENT | libc::ENOTDIR if !reachable => {}
                libc::EACCES => answer = libc::EACCES,
                other => {
                    answer = other;
                    break;
                }
            }
        }
        set_errno(answer);
    }
}

/// A session of its own, an empty signal mask, and the standard descriptors.
fn prepare(stdio: [BorrowedFd<'_>; 3]) -> bool {
    // SAFETY: no arguments.
    let session = unsafe { libc::setsid() } >= 0;
    let mut target = 0;
    let connected = stdio.iter().all(|fd| {
        // SAFETY: both are numbers of descriptors in the child's own table.
        let result = unsafe { libc::dup2(fd.as_raw_fd(), target) };
        target += 1;
        result >= 0
    });
    // SAFETY: sigset_t is a plain bit array; all zero is the empty set.
    let empty: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `empty` outlives the call; the old mask is not asked for.
    let unblocked = unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, ptr::null_mut()) } == 0;
    session && connected && unblocked
}

fn errno() -> c_int {
    // SAFETY: always a valid pointer to this thread's errno.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *location }
}

fn set_errno(value: c_int) {
    // SAFETY: always a valid pointer to this thread's errno.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *location = value };
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;

    fn c(text: &str) -> CString {
        CString::new(text).expect("no NUL")
    }

    /// Runs a program as the current user, groups permitting, and returns what it wrote to stdout.
    fn output_of(candidates: &[&str], args: &[&str], cwd: &str) -> Result<String, SpawnFailed> {
        let null = File::open("/dev/null").expect("opened");
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
        let candidates: Vec<_> = candidates.iter().map(|s| c(s)).collect();
        let args: Vec<_> = args.iter().map(|s| c(s)).collect();
        let pid = spawn(&Program {
            candidates: &candidates,
            args: &args,
            env: &[c("NAME=value")],
            cwd: &c(cwd),
            stdio: [null.as_fd(), writer.as_fd(), writer.as_fd()],
            uid: 65534,
            gid: 65533,
            groups: &[65532],
        })?;
        drop(writer);
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).expect("read");
        let pid = rustix::process::Pid::from_raw(pid);
        rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).expect("reaped");
        Ok(text)
    }

    /// Becoming another user needs root.
    fn skips(test: &str) -> bool {
        let skip = !rustix::process::geteuid().is_root();
        if skip {
            crate::skip::skip(test, "not root");
        }
        skip
    }

    #[test]
    fn the_program_runs_as_the_user_in_the_directory_with_the_environment() {
        if skips("the_program_runs_as_the_user_in_the_directory_with_the_environment") {
            return;
        }
        let script = "echo $NAME; pwd; id -u; id -g; id -G";
        let text = output_of(&["/nowhere/sh", "/bin/sh"], &["sh", "-c", script], "/usr").expect("ran");
        assert_eq!(text, "value\n/usr\n65534\n65533\n65533 65532\n");
    }

    #[test]
    fn failures_name_the_step_and_the_reason() {
        if skips("failures_name_the_step_and_the_reason") {
            return;
        }
        let cases: [(&[&str], &str, Step, c_int); 6] = [
            (&["/nowhere/x", "/etc/passwd/x"], "/", Step::Exec, libc::ENOENT),
            (&["/nowhere/x", "/etc/passwd", "/nowhere/x"], "/", Step::Exec, libc::EACCES),
            (&["/usr"], "/", Step::Exec, libc::EACCES),
            (&[], "/", Step::Exec, libc::ENOENT),
            (&["/bin/sh"], "/nowhere", Step::WorkingDirectory, libc::ENOENT),
            (&["/bin/sh"], "/etc/passwd", Step::WorkingDirectory, libc::ENOTDIR),
        ];
        for (candidates, cwd, step, errno) in cases {
            let failed = output_of(candidates, &["x"], cwd).expect_err("did not run");
            assert_eq!(
                (failed.step, failed.error.raw_os_error()),
                (step, Some(errno)),
                "{candidates:?} in {cwd}"
            );
        }
    }
}
