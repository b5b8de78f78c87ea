//! Standard input and output as a console: a terminal, most often.

use std::fs::File;
use std::io::{self, Read};

use event_manager::EventSet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::isatty;

use crate::console::end::watch;
use crate::console::escape::Escape;
use crate::console::output::Output;
use crate::console::terminal::{self, Resizes};
use crate::console::{HostEnd, Size};
use crate::virtio::Watch;

const INPUT: u32 = 0;
const OUTPUT: u32 = 1;
const RESIZED: u32 = 2;

/// Input and output of this process, or others in a test.
#[derive(Debug)]
pub(crate) struct StdioEnd {
    input: File,
    output: Output,
    /// `None` when input does not come from a terminal: then every byte is the guest's.
    escape: Option<Escape>,
    /// Where output is a terminal.
    resizes: Option<Resizes>,
    wants_end: bool,
    watches: Vec<Watch>,
}

impl StdioEnd {
    /// This process's.
    ///
    /// # Errors
    /// The host gives no descriptors.
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let input = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?.into();
        Self::new(input, Output::stream(rustix::stdio::stdout())?)
    }

    fn new(input: File, output: Output) -> io::Result<Self> {
        let escape = isatty(&input).then(Escape::default);
        let resizes = if isatty(&output) { Some(Resizes::new()?) } else { None };
        let mut watches: Vec<Watch> =
            [watch(&input, INPUT, EventSet::IN), watch(&output, OUTPUT, EventSet::OUT)]
                .into_iter()
                .flatten()
                .collect();
        watches.extend(resizes.as_ref().and_then(|resizes| watch(resizes, RESIZED, EventSet::IN)));
        Ok(Self { input, output, escape, resizes, wants_end: false, watches })
    }
}

impl HostEnd for StdioEnd {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        // Others hold this descriptor, too, so it stays as it is and may block.
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut [PollFd::new(&self.input, PollFlags::IN)], Some(&now))? == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let Some(escape) = &mut self.escape else { return self.input.read(bytes) };
        // One byte of room may be needed for a Ctrl-A that turns out not to start an escape.
        let room = bytes.len().saturating_sub(1);
        let count = self.input.read(&mut bytes[..room])?;
        let (passed, end) = escape.filter(&bytes[..count]);
        self.wants_end |= end;
        bytes[..passed.len()].copy_from_slice(&passed);
        match passed.len() {
            // All that was typed was for us.
            0 if count > 0 => Err(io::ErrorKind::Interrupted.into()),
            length => Ok(length),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn on_event(&mut self, token: u32) {
        if let (RESIZED, Some(resizes)) = (token, &self.resizes) {
            resizes.forget();
        }
    }

    fn size(&self) -> Option<Size> {
        terminal::size(&self.output)
    }

    fn wants_end(&self) -> bool {
        self.wants_end
    }

    fn take_watches(&mut self) -> Vec<Watch> {
        std::mem::take(&mut self.watches)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use rustix::termios::{Winsize, tcsetwinsize};

    use super::*;
    use crate::console::terminal::tests::terminal;

    #[test]
    fn a_terminal_has_a_size_and_an_escape() {
        let (mut master, slave) = terminal();
        let output = Output::stream(slave.as_fd()).unwrap();
        let mut end = StdioEnd::new(slave.try_clone().unwrap(), output).unwrap();
        assert_eq!(end.take_watches().len(), 3);
        let size = Winsize { ws_col: 100, ws_row: 30, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, size).unwrap();
        assert_eq!(end.size(), Some(Size { columns: 100, rows: 30 }));
        let mut bytes = [0; 16];
        assert_eq!(end.read(&mut bytes).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        master.write_all(b"ok\n\x01\n").unwrap();
        assert_eq!(end.read(&mut bytes).unwrap(), 3);
        assert_eq!(end.read(&mut bytes).unwrap(), 2, "Ctrl-A and what came after it");
        assert!(!end.wants_end());
        master.write_all(b"\x01x\n").unwrap();
        assert_eq!(end.read(&mut bytes).unwrap_err().kind(), io::ErrorKind::Interrupted);
        assert!(end.wants_end());
    }

    #[test]
    fn every_byte_of_a_pipe_is_the_guests_until_its_end() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let (_output_reader, output) = std::io::pipe().unwrap();
        let input = File::from(std::os::fd::OwnedFd::from(reader));
        let mut end = StdioEnd::new(input, Output::stream(output.as_fd()).unwrap()).unwrap();
        let mut bytes = [0; 16];
        assert_eq!(end.read(&mut bytes).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        writer.write_all(b"\x01x").unwrap();
        assert_eq!((end.read(&mut bytes).unwrap(), end.size()), (2, None));
        drop(writer);
        assert_eq!(end.read(&mut bytes).unwrap(), 0);
        assert!(!end.wants_end());
    }
}
