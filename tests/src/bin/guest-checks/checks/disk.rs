//! The first disk's bytes arrive, and so do the second's.

use std::fs::File;
use std::io::{Read, Write};

use super::{Outcome, at, expect};

/// Copies `/dev/vda` to `/dev/vdb`, which the host compares, and reads it back from there.
pub(crate) fn copies_one_to_the_other() -> Outcome {
    let sum = copy("/dev/vda", Some("/dev/vdb"))?;
    std::fs::write("/proc/sys/vm/drop_caches", "3").map_err(at("drop caches"))?;
    let back = copy("/dev/vdb", None)?;
    expect(sum == back, || format!("the copy's sum is {back:#x}, the first disk's {sum:#x}"))
}

/// The sum over all bytes read, which go to `to` where that is given.
fn copy(from: &str, to: Option<&str>) -> Result<u64, String> {
    let mut source = File::open(from).map_err(at("open the disk"))?;
    let open = |path: &str| File::options().write(true).open(path);
    let mut target = to.map(open).transpose().map_err(at("open the second disk"))?;
    let mut buffer = vec![0; 1 << 20];
    let mut all = super::sum(&[]);
    loop {
        let count = source.read(&mut buffer).map_err(at("read"))?;
        if count == 0 {
            break;
        }
        all = super::sum_on(all, &buffer[..count]);
        if let Some(target) = &mut target {
            target.write_all(&buffer[..count]).map_err(at("write"))?;
        }
    }
    target.map_or(Ok(()), |target| target.sync_all()).map_err(at("sync"))?;
    Ok(all)
}
