//! How long work tells its caller how far it is.

/// What is being done to a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// An archive is being spread into the layout it holds.
    Opening,
    /// A layer is being read, checked and converted.
    Layer,
}

/// One report; `done` and `total` are bytes of input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress<'a> {
    /// What is being done.
    pub stage: Stage,
    /// What it is done to: a digest or a file name.
    pub item: &'a str,
    /// Bytes read so far.
    pub done: u64,
    /// Bytes there are to read.
    pub total: u64,
}

/// Called with each report, about every mebibyte of input and at the end of each item.
pub type ProgressFn<'a> = &'a mut dyn FnMut(Progress<'_>);

/// Bytes of input between two reports.
const REPORT_EVERY: u64 = 1 << 20;

/// Reports as its inner reader is read.
pub(crate) struct ProgressReader<'a, 'p, R> {
    inner: R,
    stage: Stage,
    item: &'a str,
    done: u64,
    reported: u64,
    total: u64,
    report: &'a mut (dyn FnMut(Progress<'_>) + 'p),
}

impl<'a, 'p, R> ProgressReader<'a, 'p, R> {
    pub(crate) fn new(
        inner: R,
        stage: Stage,
        item: &'a str,
        total: u64,
        report: &'a mut (dyn FnMut(Progress<'_>) + 'p),
    ) -> Self {
        Self { inner, stage, item, done: 0, reported: 0, total, report }
    }
}

impl<R: std::io::Read> std::io::Read for ProgressReader<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.done += count as u64;
        let ended = count == 0 && !buffer.is_empty() && self.reported != self.done;
        if ended || self.done - self.reported >= REPORT_EVERY {
            self.reported = self.done;
            (self.report)(Progress {
                stage: self.stage,
                item: self.item,
                done: self.done,
                total: self.total,
            });
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_each_mebibyte_and_the_end() {
        let data = vec![0u8; (5 << 19) + 3];
        let mut seen = Vec::new();
        let mut report = |progress: Progress<'_>| seen.push(progress.done);
        let mut reader = ProgressReader::new(&data[..], Stage::Layer, "x", data.len() as u64, &mut report);
        std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
        assert!(seen.len() >= 3, "{seen:?}");
        assert_eq!(seen.last(), Some(&(data.len() as u64)));
    }
}
