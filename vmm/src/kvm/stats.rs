//! What KVM itself counts of a machine and its vCPUs (Linux: Documentation/virt/kvm/api.rst, section 4.133).
//!
//! The file describes itself: a header, then one description for each figure, which says where its values are. That is
//! read once; afterwards each look is one read of the values.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;

use kvm_bindings::{
    KVM_STATS_TYPE_CUMULATIVE, KVM_STATS_TYPE_INSTANT, KVM_STATS_TYPE_MASK, KVM_STATS_TYPE_PEAK, KVMIO,
};

use crate::machine::{Statistic, Statistics};

vmm_sys_util::ioctl_io_nr!(KVM_GET_STATS_FD, KVMIO, 0xce);

/// Bytes of the header, and of a description without its name.
const HEADER: usize = 24;
const DESCRIPTION: usize = 16;
/// No kernel has more figures, or longer names; a file that says so is not believed.
const MAX_FIGURES: usize = 1024;
const MAX_NAME: usize = 256;

/// A figure and where its value is, as a number of 64-bit values.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Figure {
    name: String,
    at: usize,
    /// It says how things are; others count.
    is_now: bool,
}

/// The statistics of a machine or a vCPU.
#[derive(Debug)]
pub(crate) struct KvmStats {
    group: String,
    file: File,
    figures: Vec<Figure>,
    /// Where the values are, in bytes, and how many.
    data: u64,
    values: usize,
}

impl KvmStats {
    /// The statistics behind `fd`, a machine's or a vCPU's, under the name `group`; none where KVM keeps none.
    pub(crate) fn open(fd: &impl AsRawFd, group: String) -> Option<Self> {
        // SAFETY: KVM_GET_STATS_FD takes no argument and touches no memory of ours.
        let own = unsafe { libc::ioctl(fd.as_raw_fd(), KVM_GET_STATS_FD()) };
        if own < 0 {
            tracing::debug!(error = %io::Error::last_os_error(), group, "KVM keeps no statistics");
            return None;
        }
        // SAFETY: the kernel has just made `own`, and nobody else knows of it.
        let file = unsafe { File::from_raw_fd(own) };
        match describe(|buffer, at| file.read_exact_at(buffer, at)) {
            Ok((figures, data)) => {
                let values = figures.iter().map(|figure| figure.at + 1).max().unwrap_or(0);
                Some(Self { group, file, figures, data, values })
            }
            Err(error) => {
                tracing::warn!(%error, group, "cannot understand KVM's statistics");
                None
            }
        }
    }

    /// The figures as they are now.
    pub(crate) fn read(&self) -> Statistics {
        let mut bytes = vec![0; self.values * 8];
        let mut figures = Vec::new();
        match self.file.read_exact_at(&mut bytes, self.data) {
            Ok(()) => {
                let (values, _) = bytes.as_chunks::<8>();
                figures.extend(self.figures.iter().filter_map(|Figure { name, at, is_now }| {
                    let value = u64::from_ne_bytes(*values.get(*at)?);
                    Some(Statistic { name: name.clone(), value, is_now: *is_now })
                }));
            }
            Err(error) => tracing::warn!(%error, group = self.group, "cannot read KVM's statistics"),
        }
        Statistics { group: self.group.clone(), figures }
    }
}

/// Reads header and descriptions by `read_at`: the figures that are one value each, and where the values are.
fn describe(read_at: impl Fn(&mut [u8], u64) -> io::Result<()>) -> io::Result<(Vec<Figure>, u64)> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut header = [0; HEADER];
    read_at(&mut header, 0)?;
    let [_, name_size, count, _, descriptions, data] = words(&header);
    let (name_size, count) = (name_size as usize, count as usize);
    if name_size > MAX_NAME || count > MAX_FIGURES {
        return Err(bad("it says that it has more than there can be"));
    }
    let size = DESCRIPTION + name_size;
    let mut bytes = vec![0; size * count];
    read_at(&mut bytes, descriptions.into())?;
    let mut figures = Vec::new();
    for description in bytes.chunks_exact(size) {
        let (fixed, name) = description.split_at(DESCRIPTION);
        let [flags, exponent_and_size, offset, _] = words(fixed);
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let kind = flags & KVM_STATS_TYPE_MASK;
        // Two 16-bit fields; on x86, the size is the upper one. Histograms have more than one value.
        let is_figure = exponent_and_size >> 16 == 1
            && [KVM_STATS_TYPE_CUMULATIVE, KVM_STATS_TYPE_INSTANT, KVM_STATS_TYPE_PEAK].contains(&kind);
        if is_figure {
            let at = offset as usize / 8;
            if at >= MAX_FIGURES * MAX_NAME {
                return Err(bad("a value is where none can be"));
            }
            let name = String::from_utf8_lossy(name).into_owned();
            figures.push(Figure { name, at, is_now: kind != KVM_STATS_TYPE_CUMULATIVE });
        }
    }
    Ok((figures, data.into()))
}

/// The first 32-bit words of `bytes`; zero beyond its end.
fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let (words, _) = bytes.as_chunks::<4>();
    std::array::from_fn(|index| words.get(index).copied().map_or(0, u32::from_ne_bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A file with a counter, a histogram of two values, and a gauge, in this order.
    fn file() -> Vec<u8> {
        let mut bytes: Vec<u8> =
            [0u32, 8, 3, 24, 32, 104].iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend(b"kvm-1\0\0\0");
        for (flags, size, offset, name) in
            [(0u32, 1u32, 0u32, b"exits\0\0\0"), (4, 2, 8, b"times\0\0\0"), (1, 1, 24, b"pages\0\0\0")]
        {
            for word in [flags, size << 16, offset, 0] {
                bytes.extend(word.to_ne_bytes());
            }
            bytes.extend(name);
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> io::Result<(Vec<Figure>, u64)> {
        describe(|buffer, at| {
            let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
            let part = rest.get(..buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(part);
            Ok(())
        })
    }

    #[test]
    fn the_file_describes_itself() {
        let figure = |name: &str, at, is_now| Figure { name: name.to_owned(), at, is_now };
        let (figures, data) = parse(&file()).unwrap();
        assert_eq!(figures, [figure("exits", 0, false), figure("pages", 3, true)]);
        assert_eq!(data, 104);
    }

    #[test]
    fn a_file_that_promises_too_much_is_not_believed() {
        let mut bytes = file();
        bytes[8..12].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(parse(&bytes).is_err());
        assert!(parse(&file()[..50]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_figures_or_an_error(at in 0..104usize, word: u32) {
            let mut bytes = file();
            let at = at.min(bytes.len() - 4);
            bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
            let _ = parse(&bytes);
        }
    }
}
