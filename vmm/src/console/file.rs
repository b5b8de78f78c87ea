//! A console that only says something: into a file, or a pipe.

use std::io;
use std::path::Path;

use event_manager::EventSet;

use crate::console::HostEnd;
use crate::console::end::watch;
use crate::console::output::Output;
use crate::virtio::Watch;

const OUTPUT: u32 = 0;

/// The file or pipe.
#[derive(Debug)]
pub(crate) struct FileEnd {
    output: Output,
    watches: Vec<Watch>,
}

impl FileEnd {
    /// Appends to what is at `path`; a file is made if there is none. A descriptor of this process is `/dev/fd/N`.
    ///
    /// # Errors
    /// It cannot be opened; a pipe needs a reader.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let output = Output::append(path)?;
        let watches = watch(&output, OUTPUT, EventSet::OUT).into_iter().collect();
        Ok(Self { output, watches })
    }
}

impl HostEnd for FileEnd {
    fn read(&mut self, _bytes: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn on_event(&mut self, _token: u32) {}

    fn take_watches(&mut self) -> Vec<Watch> {
        std::mem::take(&mut self.watches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_everything_and_a_pipe_says_when_it_does_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = FileEnd::open(&directory.path().join("log")).unwrap();
        assert!(file.take_watches().is_empty());
        assert_eq!((file.write(b"hello").unwrap(), file.read(&mut [0; 9]).unwrap()), (5, 0));
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(FileEnd::open(&pipe).is_err(), "nobody reads");
        let (_reader, writer) = std::io::pipe().unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&writer);
        let mut inherited = FileEnd::open(Path::new(&format!("/dev/fd/{fd}"))).unwrap();
        assert_eq!(inherited.take_watches().len(), 1);
        while inherited.write(&[0; 4096]).is_ok() {}
    }
}
