//! The kernel source: Debian's `linux-source-6.1`, in the version that the host has or its archive serves.
//!
//! Debian drops old versions from its archive, so none is pinned; the ones tried are in
//! `guest-images/kernel/tested-versions`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::command::run_quietly;
use crate::progress;

const PACKAGE: &str = "linux-source-6.1";
/// The tarball inside the package, below `/`; it unpacks to a directory of the package's name.
const TARBALL: &str = "usr/src/linux-source-6.1.tar.xz";
const ADVICE: &str = "`cargo xtask setup` installs what is missing (apt-get install linux-source-6.1)";

/// The source package, found but not yet unpacked.
pub(super) struct Source {
    /// Debian's version of the package, such as `6.1.192-2`.
    pub(super) version: String,
    origin: Origin,
}

enum Origin {
    Installed(PathBuf),
    /// To be downloaded from the archive into this directory.
    Archive(PathBuf),
}

impl Source {
    /// Finds the installed package, else what the archive serves; downloads nothing yet.
    ///
    /// # Errors
    ///
    /// Neither is to be had: no Debian host, or package lists that were never fetched.
    pub(super) fn find(cache_dir: &Path) -> Result<Self> {
        let tarball = Path::new("/").join(TARBALL);
        if tarball.is_file()
            && let Some(version) = output("dpkg-query", &["-W", "-f=${Version}", PACKAGE])
        {
            return Ok(Self { version, origin: Origin::Installed(tarball) });
        }
        let policy = output("apt-cache", &["policy", PACKAGE]).unwrap_or_default();
        let version = candidate(&policy)
            .with_context(|| format!("{PACKAGE} is neither installed nor in the package lists; {ADVICE}"))?;
        Ok(Self { version: version.to_owned(), origin: Origin::Archive(cache_dir.join("download")) })
    }

    /// Unpacks the source below `work` and returns the tree. One that is there whole already is left alone.
    pub(super) fn unpack(&self, work: &Path) -> Result<PathBuf> {
        let tree = work.join("source");
        if tree.is_dir() {
            return Ok(tree);
        }
        let tarball = match &self.origin {
            Origin::Installed(tarball) => tarball.clone(),
            Origin::Archive(dir) => download(dir, &self.version)?,
        };
        let part = work.join("source.part");
        if part.exists() {
            fs::remove_dir_all(&part).with_context(|| format!("remove {}", part.display()))?;
        }
        fs::create_dir_all(&part).with_context(|| format!("create {}", part.display()))?;
        let text = format!("unpacking {PACKAGE} {} (1.4 GiB) below {}", self.version, work.display());
        progress::say("kernel", &text);
        let mut tar = Command::new("tar");
        tar.arg("-xJf").arg(&tarball).arg("--strip-components=1").arg("-C").arg(&part);
        run_quietly(&text, &mut tar)?;
        fs::rename(&part, &tree)
            .with_context(|| format!("rename {} to {}", part.display(), tree.display()))?;
        Ok(tree)
    }
}

/// Downloads the package, which takes no root, and takes the tarball out of it.
fn download(dir: &Path, version: &str) -> Result<PathBuf> {
    let tarball = dir.join(format!("{PACKAGE}_{}.tar.xz", version.replace(':', "_")));
    if tarball.is_file() {
        return Ok(tarball);
    }
    let part = dir.join("part");
    if part.exists() {
        fs::remove_dir_all(&part).with_context(|| format!("remove {}", part.display()))?;
    }
    fs::create_dir_all(&part).with_context(|| format!("create {}", part.display()))?;
    let text = format!("downloading {PACKAGE} {version}");
    progress::say("kernel", &text);
    let mut apt = Command::new("apt-get");
    run_quietly(&text, apt.arg("download").arg(format!("{PACKAGE}={version}")).current_dir(&part))
        .with_context(|| format!("{PACKAGE} cannot be downloaded; {ADVICE}"))?;
    let package = fs::read_dir(&part)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get left no package in {}", part.display()))?;
    run_quietly("taking the tarball out", Command::new("dpkg-deb").arg("-x").arg(&package).arg(&part))?;
    let unpacked = part.join(TARBALL);
    fs::rename(&unpacked, &tarball).with_context(|| format!("{PACKAGE} {version} holds no {TARBALL}"))?;
    fs::remove_dir_all(&part).with_context(|| format!("remove {}", part.display()))?;
    Ok(tarball)
}

/// The version that `apt-cache policy` says an installation would give.
fn candidate(policy: &str) -> Option<&str> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?.trim();
    (version != "(none)" && !version.is_empty()).then_some(version)
}

/// What a command writes to its standard output, trimmed; `None` when it cannot be run, fails or says nothing.
fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).env("LC_ALL", "C").stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_candidate_is_what_the_archive_serves() {
        let policy = "linux-source-6.1:\n  Installed: (none)\n  Candidate: 6.1.192-2\n  Version table:\n";
        assert_eq!(candidate(policy), Some("6.1.192-2"));
        assert_eq!(candidate("linux-source-6.1:\n  Installed: (none)\n  Candidate: (none)\n"), None);
        assert_eq!(candidate(""), None);
    }
}
