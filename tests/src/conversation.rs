//! A guest whose shell script and a test speak with each other on its console, line by line.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use crate::{Host, initramfs_with, kernel};

/// How long a guest may take for its next line.
const PATIENCE: Duration = Duration::from_secs(120);

/// Before a script: every word of busybox is a command, and devices are there.
const PRELUDE: &str =
    "/bin/busybox --install -s /bin\nexport PATH=/bin\nmount -t devtmpfs dev /dev\nmount -t sysfs sys /sys\n";

/// A guest of `carve vm boot`, which is killed when this is dropped.
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
        let initrd = initramfs_with(&host.path(name), &format!("{PRELUDE}{script}"));
        let mut boot = host.carve(&["vm", "boot", "--memory", "128"]);
        boot.arg("--kernel")
            .arg(kernel().expect("the host has one"))
            .arg("--initrd")
            .arg(initrd)
            .args(options);
        Self::start(boot)
    }

    fn start(mut boot: Command) -> Self {
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

    /// The process id of `carve vm boot`.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Lets the guest work until it says this; answers what it said before, and the line itself last.
    ///
    /// # Panics
    /// When it says `FAILED`, ends, or says nothing for two minutes.
    pub fn until(&mut self, wanted: &str) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
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
