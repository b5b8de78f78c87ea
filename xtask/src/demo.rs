//! The demo image: built by the recipe in `guest-images/demo/`, imported into the store that `carve` uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::command::{capture, run};
use crate::progress::Outcome;
use crate::workspace;

const IMAGE: &str = "demo";
const RECIPE: &str = "guest-images/demo";
/// Where the recipe leaves the layers, `*.tar` in the order of their names.
const LAYERS: &str = "images/demo";
/// One Dockerfile instruction a line: the image's configuration.
const CHANGES: &str = "changes";

/// Builds and imports the image, unless this recipe's is there.
///
/// # Errors
/// The recipe's or the import's own.
pub(crate) fn import() -> Result<Outcome> {
    let recipe = workspace::root().join(RECIPE);
    let wanted = hash_of(&recipe)?;
    let stamp = workspace::target(LAYERS).with_extension("stamp");
    let built = fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == wanted);
    if built && capture(Command::new(workspace::carve()).args(["image", "inspect", IMAGE]))?.status.success()
    {
        return Ok(Outcome::Cached);
    }
    let out = workspace::target(LAYERS);
    // Layers of an earlier recipe would be imported, too.
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
    }
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    run(Command::new(recipe.join("build.sh")).arg(&out))?;
    let layers = layers(&out)?;
    let mut import = Command::new(workspace::carve());
    import.args(["image", "import", "--name", IMAGE]);
    for change in fs::read_to_string(recipe.join(CHANGES))?.lines().filter(|line| is_instruction(line)) {
        import.args(["--change", change]);
    }
    run(import.args(&layers))?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(Outcome::Done)
}

/// The layers that the recipe made, the base first.
fn layers(out: &Path) -> Result<Vec<PathBuf>> {
    let mut layers = files(out)?;
    layers.retain(|path| path.extension().is_some_and(|extension| extension == "tar"));
    if layers.is_empty() {
        bail!("{RECIPE}/build.sh left no layers (*.tar) in {}", out.display());
    }
    Ok(layers)
}

fn is_instruction(line: &str) -> bool {
    !line.trim().is_empty() && !line.trim_start().starts_with('#')
}

/// Names and contents of a directory's files, as one hash.
fn hash_of(dir: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    for path in files(dir)? {
        let contents = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        hash.update(path.strip_prefix(dir).unwrap_or(&path).as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(contents.len().to_le_bytes());
        hash.update(&contents);
    }
    Ok(hex::encode(hash.finalize()))
}

/// The files of a directory and of those below it, sorted.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_changes_with_any_name_or_content() {
        let dir = tempfile::tempdir().expect("dir");
        let write = |name: &str, text: &str| {
            fs::create_dir_all(dir.path().join("sub")).expect("made");
            fs::write(dir.path().join(name), text).expect("written");
            hash_of(dir.path()).expect("hashed")
        };
        let hashes = [write("a", "1"), write("a", "2"), write("sub/b", ""), write("sub/c", "")];
        for (at, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..at].contains(hash), "{hashes:?}");
        }
        assert_eq!(hash_of(dir.path()).expect("hashed"), hashes[3]);
    }

    #[test]
    fn layers_come_in_the_order_of_their_names_and_there_must_be_one() {
        let dir = tempfile::tempdir().expect("dir");
        assert!(layers(dir.path()).is_err());
        for name in ["10-app.tar", "00-base.tar", "notes.txt"] {
            fs::write(dir.path().join(name), "").expect("written");
        }
        let names: Vec<_> = layers(dir.path())
            .expect("layers")
            .into_iter()
            .map(|p| p.file_name().map(ToOwned::to_owned))
            .collect();
        assert_eq!(names, [Some("00-base.tar".into()), Some("10-app.tar".into())]);
    }
}
