//! The demo image: built by the recipe in `guest-images/demo/`, imported into the store that `carve` uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::command::{capture, run};
use crate::progress::Outcome;
use crate::{packages, workspace};

const IMAGE: &str = "demo";
const RECIPE: &str = "guest-images/demo";
/// Where the recipe leaves the layers.
const OUT: &str = "images/demo";
/// The layers, the base first.
const LAYERS: [&str; 2] = ["base.tar", "app.tar"];
/// One Dockerfile instruction a line: the image's configuration.
const CHANGES: &str = "changes";

/// Builds and imports the image, unless this recipe's is there.
///
/// # Errors
/// The recipe's or the import's own.
pub(crate) fn import() -> Result<Outcome> {
    let recipe = workspace::root().join(RECIPE);
    let wanted = hash_of(&recipe)?;
    let stamp = workspace::target(OUT).with_extension("stamp");
    let built = fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == wanted);
    if built && capture(Command::new(workspace::carve()).args(["image", "inspect", IMAGE]))?.status.success()
    {
        return Ok(Outcome::Cached);
    }
    let out = workspace::target(OUT);
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    build(&recipe, &out)?;
    let mut import = Command::new(workspace::carve());
    import.args(["image", "import", "--name", IMAGE]);
    for change in fs::read_to_string(recipe.join(CHANGES))?.lines().filter(|line| is_instruction(line)) {
        import.args(["--change", change]);
    }
    run(import.args(LAYERS.map(|layer| out.join(layer))))?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(Outcome::Done)
}

/// Runs the recipe, a second time with fresh package lists when it fails: the archive drops old versions, and a new
/// machine has no lists.
fn build(recipe: &Path, out: &Path) -> Result<()> {
    let mut command = Command::new(recipe.join("build.sh"));
    command.arg(out);
    match run(&mut command) {
        Err(first) => {
            packages::update_lists()
                .with_context(|| format!("{first:#}, and the package lists could not be renewed"))?;
            run(&mut command)
        }
        Ok(()) => Ok(()),
    }
}

/// Whether a line of the recipe's `changes` says anything.
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
    fn the_recipe_has_its_parts() {
        let recipe = workspace::root().join(RECIPE);
        let changes = fs::read_to_string(recipe.join(CHANGES)).expect("there");
        assert!(changes.lines().any(|line| is_instruction(line) && line.starts_with("CMD ")), "{changes}");
        let script = fs::read_to_string(recipe.join("build.sh")).expect("there");
        for layer in LAYERS {
            assert!(script.contains(layer), "build.sh makes no {layer}");
        }
    }
}
