//! A `carve` command that runs while the test goes on, and an HTTP client of ten lines.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take here: boots on a machine without hardware virtualisation take tens of seconds.
const PATIENCE: Duration = Duration::from_secs(180);

/// A running `carve` command; killed when dropped.
#[derive(Debug)]
pub struct Client(Option<Child>);

impl Client {
    /// Starts a command that [`crate::Host::carve`] made.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("carve starts");
        Self(Some(child))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.as_ref().expect("it was not waited for").id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a process id");
        kill_process(pid, signal).expect("it can be signalled");
    }

    /// Whether it has ended.
    #[must_use]
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.as_mut().expect("it was not waited for").try_wait().expect("it can be waited for")
    }

    /// Waits for its end.
    #[must_use]
    pub fn wait(mut self) -> Output {
        wait_for("the command ends", || self.ended().map(|_| ()));
        self.0.take().expect("it was not waited for").wait_with_output().expect("its output can be read")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended already.
            let _ = child.kill().and_then(|()| child.wait().map(drop));
        }
    }
}

/// Tries until there is an answer.
///
/// # Panics
/// When there is none within three minutes.
pub fn wait_for<T>(what: &str, attempt: impl FnMut() -> Option<T>) -> T {
    wait_at_most(PATIENCE, what, attempt)
}

/// Tries until there is an answer.
///
/// # Panics
/// When there is none within this time.
pub fn wait_at_most<T>(patience: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = attempt() {
            return answer;
        }
        assert!(Instant::now() < deadline, "timed out: {what}");
        sleep(Duration::from_millis(10));
    }
}

/// The body of `GET /` from a server, if it answers with 200.
#[must_use]
pub fn http_get(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.split(' ').nth(1).filter(|status| *status == "200").map(|_| body.to_owned())
}
