//! A virtual machine's thin read-write layer: a sparse ext4 disk, copied from an empty one that is made once.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};

use crate::{
    error::{EngineError, Result},
    files::{self, Lock},
    root::Root,
};

/// Size of the disk as the guest sees it, in bytes. On the host it takes what was written.
const SIZE: u64 = 10 << 30;
/// Changes with the arguments of mkfs, so that an old template is not taken for a new one.
const TEMPLATE: &str = "writable-v2.ext4";
/// A small journal, tables made when first needed (`uninit_bg`), and no checksums of metadata, which cost the guest more
/// than they tell it about a disk that is a file of the host.
const MKFS: [&str; 13] = [
    "-q",
    "-F",
    "-i",
    "32768",
    "-m",
    "0",
    "-J",
    "size=4",
    "-O",
    "^metadata_csum,uninit_bg,^resize_inode",
    "-E",
    "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
    "-L",
];
const COPY: usize = 1 << 20;

/// Makes the read-write disk of an instance.
pub(crate) fn make_writable(root: &Root, disk: &Path) -> Result<()> {
    if disk.exists() {
        return Ok(());
    }
    let template = template(root)?;
    let partial = disk.with_extension("partial");
    copy_sparse(&template, &partial).map_err(EngineError::file("copy the empty disk to", &partial))?;
    fs::rename(&partial, disk).map_err(EngineError::file("rename to", disk))
}

fn template(root: &Root) -> Result<PathBuf> {
    let dir = root.templates();
    let template = dir.join(TEMPLATE);
    if template.exists() {
        return Ok(template);
    }
    files::make_dir(&dir)?;
    let _making = Lock::acquire(&dir.join("lock"))?;
    if template.exists() {
        return Ok(template);
    }
    let partial = dir.join("partial");
    File::create(&partial)
        .and_then(|f| f.set_len(SIZE))
        .map_err(EngineError::file("make the disk", &partial))?;
    let output = Command::new("mkfs.ext4").args(MKFS).arg("carve").arg(&partial).output();
    let output = output.map_err(|e| {
        EngineError::Invalid(format!("cannot run mkfs.ext4 ({e}); install the package e2fsprogs"))
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(EngineError::Invalid(format!(
            "mkfs.ext4 cannot make {}: {}",
            partial.display(),
            said.trim()
        )));
    }
    fs::rename(&partial, &template).map_err(EngineError::file("rename to", &template))?;
    Ok(template)
}

/// Copies a file with its holes.
fn copy_sparse(from: &Path, to: &Path) -> std::io::Result<()> {
    let from = File::open(from)?;
    let to = OpenOptions::new().write(true).create(true).truncate(true).open(to)?;
    let size = from.metadata()?.len();
    to.set_len(size)?;
    let mut buffer = vec![0; COPY];
    let mut end = 0;
    loop {
        let start = match seek(&from, SeekFrom::Data(end)) {
            Ok(start) => start,
            // No data behind this point.
            Err(Errno::NXIO) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        end = seek(&from, SeekFrom::Hole(start))?;
        let mut at = start;
        while at < end {
            let piece = usize::try_from(end - at).map_or(COPY, |left| left.min(COPY));
            let read = from.read_at(&mut buffer[..piece], at)?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            to.write_all_at(&buffer[..read], at)?;
            at += read as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn copies_data_and_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let file = File::create(&from).unwrap();
        file.set_len(1 << 30).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(&[7; 3 << 20], 500 << 20).unwrap();
        copy_sparse(&from, &to).unwrap();
        let copied = File::open(&to).unwrap();
        assert_eq!(copied.metadata().unwrap().len(), 1 << 30);
        assert!(copied.metadata().unwrap().blocks() * 512 < 8 << 20);
        let mut bytes = [0; 5];
        copied.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"begin");
        copied.read_exact_at(&mut bytes, (503 << 20) - 3).unwrap();
        assert_eq!(bytes, [7, 7, 7, 0, 0]);
    }
}
