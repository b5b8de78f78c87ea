//! A descriptor that console output goes to, without blocking.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;

/// Bytes that a descriptor which blocks takes at a time once it says that it is ready: few enough for a terminal.
const CAREFULLY: usize = 64;

/// The descriptor.
#[derive(Debug)]
pub(crate) struct Output {
    file: File,
    /// It would block, so it is asked before each write.
    blocks: bool,
}

impl Output {
    /// Appends to the file, pipe or device at `path`; a file is made if there is none.
    ///
    /// # Errors
    /// It cannot be opened; a pipe needs a reader.
    pub(crate) fn append(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).append(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        Ok(Self { file: options.open(path)?, blocks: false })
    }

    /// A standard stream of this process, which others may hold, too: making it non-blocking would make it so for the
    /// shell. A pipe or terminal is therefore opened once more where the host lets us.
    ///
    /// # Errors
    /// The host gives no descriptor.
    pub(crate) fn stream(stream: BorrowedFd<'_>) -> io::Result<Self> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(stream)?.st_mode);
        if matches!(kind, FileType::Fifo | FileType::CharacterDevice) {
            let again = OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(format!("/proc/self/fd/{}", stream.as_raw_fd()));
            if let Ok(file) = again {
                return Ok(Self { file, blocks: false });
            }
        }
        let file = rustix::io::fcntl_dupfd_cloexec(stream, 3)?.into();
        Ok(Self { file, blocks: kind != FileType::RegularFile })
    }

    /// Writes what can be written now.
    ///
    /// # Errors
    /// `WouldBlock` where that is nothing, or what the host says.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut bytes = bytes;
        if self.blocks {
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            if poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], Some(&now))? == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            bytes = &bytes[..bytes.len().min(CAREFULLY)];
        }
        loop {
            match self.file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Writes until there is no room, and says how much there was.
    fn fill(output: &mut Output) -> usize {
        let mut written = 0;
        loop {
            match output.write(&[7; 1000]) {
                Ok(count) => written += count,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    return written;
                }
            }
        }
    }

    #[test]
    fn a_full_pipe_neither_blocks_nor_becomes_another_for_its_other_owners() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut output = Output::stream(writer.as_fd()).unwrap();
        let written = fill(&mut output);
        assert!(written >= 4096, "{written}");
        let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
        let mut bytes = vec![0; 8192];
        let count = reader.read(&mut bytes).unwrap();
        assert!(count > 0 && output.write(b"x").unwrap() == 1);
    }

    #[test]
    fn a_stream_that_cannot_be_opened_again_is_asked_first() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut output = Output::stream(ours.as_fd()).unwrap();
        assert!(output.blocks);
        assert!(fill(&mut output) > 0);
    }

    #[test]
    fn a_file_is_appended_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        for text in ["one ", "two"] {
            assert_eq!(Output::append(&path).unwrap().write(text.as_bytes()).unwrap(), text.len());
        }
        let mut redirected =
            Output::stream(OpenOptions::new().append(true).open(&path).unwrap().as_fd()).unwrap();
        redirected.write(b" three").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one two three");
    }
}
