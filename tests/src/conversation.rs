//! A guest whose shell script and a test speak with each other on its console, line by line.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use crate::{Host, initramfs_with, kernel};

/// How long a guest may take for what is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Before a script: every word of busybox is a command, and devices are there.
const PRELUDE: &str =
    "/bin/busybox --install -s /bin\nexport PATH=/bin\nmount -t devtmpfs dev /dev\nmount -t sysfs sys /sys\n";

/// A script that runs the commands that its guest is told; see [`Guest::runs`].
pub const OBEYS: &str = "stty -F /dev/console -echo\necho state: obeys\n\
    while read -r command; do eval \"$command\"; echo done: $?; done";

/// A machine whose console this talks to, which is killed when this is dropped.
#[derive(Debug)]
pub struct Guest {
    process: Child,
    lines: Receiver<String>,
}

impl Guest {
    /// Boots the guest kernel with `script` as its init; its initramfs is made in the directory `name` of the host.
    /// `options` are those of `carve vm boot`, and where there is no `--console`, the console is the serial port.
    ///
    /// # Panics
    /// When carve does not start.
    #[must_use]
    pub fn boot(host: &Host, name: &str, script: &str, options: &[&str]) -> Self {
        let initrd = Self::initramfs(host, name, script);
        let mut boot = host.carve(&["vm", "boot", "--memory", "128"]);
        boot.arg("--kernel")
            .arg(kernel().expect("the host has one"))
            .arg("--initrd")
            .arg(initrd)
            .args(options);
        Self::start(boot)
    }

    /// An initramfs with `script` as its init, in the directory `name` of the host.
    #[must_use]
    pub fn initramfs(host: &Host, name: &str, script: &str) -> PathBuf {
        initramfs_with(&host.path(name), &format!("{PRELUDE}{script}"))
    }

    /// A machine whose console is on the standard input and output of this command.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(mut boot: Command) -> Self {
        let mut process = boot.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("carve starts");
        let output = BufReader::new(process.stdout.take().expect("asked for above"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { process, lines }
    }

    /// The process id of the command.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Lets the guest work until it says this; answers what it said before, and the line itself last.
    ///
    /// # Panics
    /// When it says `FAILED`, ends, or does not say this for two minutes.
    pub fn until(&mut self, wanted: &str) -> Vec<String> {
        let mut said = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    assert!(!line.contains("FAILED"), "{line}, after {said:#?}");
                    said.push(line);
                }
                Err(RecvTimeoutError::Disconnected) => panic!("ended without {wanted:?}: {said:#?}"),
                Err(RecvTimeoutError::Timeout) => panic!("no {wanted:?} in two minutes: {said:#?}"),
            }
            if said.last().is_some_and(|line| line.contains(wanted)) {
                return said;
            }
        }
    }

    /// Has a guest whose script is [`OBEYS`] run a command; answers what that says.
    ///
    /// # Panics
    /// As for [`Self::until`].
    pub fn runs(&mut self, command: &str) -> String {
        self.tell(command);
        let mut said = self.until("done: ");
        said.pop();
        said.join("\n")
    }

    /// Types a line.
    ///
    /// # Panics
    /// When nobody reads it.
    pub fn tell(&mut self, line: &str) {
        let input = self.process.stdin.as_mut().expect("asked for at its start");
        input.write_all(format!("{line}\n").as_bytes()).expect("it listens");
    }

    /// Waits for the machine's end, which must be a good one.
    ///
    /// # Panics
    /// When there is none, or another one.
    pub fn ends(mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.process.try_wait().expect("it is there").is_none() {
            assert!(Instant::now() < deadline, "the machine does not end");
            thread::sleep(Duration::from_millis(10));
        }
        assert!(self.process.wait().expect("it is there").success(), "the machine ended badly");
    }

    /// What `kill -9` does to all of its processes.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill().and_then(|()| self.process.wait().map(drop));
    }
}
