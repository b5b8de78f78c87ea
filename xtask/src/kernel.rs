//! `cargo xtask kernel`: the guest kernel, from Debian's unmodified source package and the config fragments of
//! `guest-images/kernel/`.
//!
//! A finished kernel is kept outside the tree under the hash of everything it was made from ([`cache`]), so a
//! second checkout, a `cargo clean` or a second run costs nothing. An interrupted build goes on where it stopped.
//! Root is not needed: where the source package is not installed it is downloaded into the cache ([`source`]).

mod cache;
mod fragments;
mod make;
mod progress;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

pub(crate) use cache::cache_dir;
use cache::{Cache, Key};
use fragments::Wanted;
use source::Source;

use crate::progress::say;
use crate::workspace;

/// Where the fragments and the list of tested versions live, in the workspace.
const RECIPE_DIR: &str = "guest-images/kernel";
/// Where the finished kernel goes, below the build directory.
const OUTPUT_DIR: &str = "guest";

/// What make is told: extra compiler flags, for all files and for some.
///
/// GCC treats `__init` code as cold and expands `memset` there to `rep stosb`, one byte an iteration, which takes seconds
/// where kernel mode is emulated; calls reach the kernel's own routines, which it chooses by CPU.
///
/// Cold code is also compiled for size. That is a call for each page of memory when page structures are initialised, so
/// in that file the attribute means nothing (`__attribute__((__cold__))` becomes an empty one), and what does not depend
/// on the page is decided before the loop.
///
/// The other files are those in which a boot spends its instructions and which `-O3` shortens: names and numbers (sysfs,
/// printing, checksums), small objects (slab, per-CPU memory, ids), instructions to be patched. The kernel's image
/// stays as large as it was. Tried, and longer for it: the page allocator, string functions.
const FLAGS: [&str; 16] = [
    "KCFLAGS=-mstringop-strategy=libcall",
    "CFLAGS_page_alloc.o=-D__cold__= -funswitch-loops",
    "CFLAGS_vsprintf.o=-O3",
    "CFLAGS_insn.o=-O3",
    "CFLAGS_chacha.o=-O3",
    "CFLAGS_slab.o=-O3",
    "CFLAGS_percpu.o=-O3",
    "CFLAGS_params.o=-O3",
    "CFLAGS_proc_sysctl.o=-O3",
    "CFLAGS_idr.o=-O3",
    "CFLAGS_radix-tree.o=-O3",
    "CFLAGS_kobject_uevent.o=-O3",
    "CFLAGS_e820.o=-O3",
    "CFLAGS_dir.o=-O3 -funroll-loops",
    "CFLAGS_file.o=-O3",
    "CFLAGS_blake2s-generic.o=-O3",
];

/// What a finished build consists of: its name in the cache entry and in [`OUTPUT_DIR`].
const ARTIFACTS: [&str; 3] = ["vmlinux", "System.map", "kernel.config"];

/// Makes sure that `target/guest/vmlinux` is the kernel of the present recipe, and returns its path.
///
/// Builds only when the cache lacks it, or when `force` is set.
///
/// # Errors
///
/// A missing tool or package, a fragment asking for what the kernel's Kconfig does not grant, a failed build:
/// each says what to do next.
pub(crate) fn build(force: bool) -> Result<PathBuf> {
    let recipe = workspace::root().join(RECIPE_DIR);
    let cache = Cache::open()?;
    let wanted = Wanted::read(&recipe)?;
    let source = Source::find(cache.dir())?;
    warn_if_untested(&recipe, &source.version)?;

    let key = Key::of(&source.version, &wanted, &make::toolchain()?, &FLAGS.join("\n"));
    if force || cache.entry(&key).is_none() {
        let _lock = cache.lock()?;
        // Whoever held the lock may have built exactly this.
        if force || cache.entry(&key).is_none() {
            build_into(&cache, &key, &source, &wanted)?;
        }
    }
    let entry =
        cache.entry(&key).context("the kernel that was just built is not in the cache; run it again")?;
    publish(&entry, &workspace::target(OUTPUT_DIR))
}

/// Unpacks, configures, compiles and stores one kernel. The cache's lock is held.
fn build_into(cache: &Cache, key: &Key, source: &Source, wanted: &Wanted) -> Result<()> {
    let work = cache.work_dir(key)?;
    let tree = source.unpack(&work)?;
    configure(&tree, &work, wanted)?;
    make::vmlinux(&tree, &work.join("make.log"), &FLAGS)?;

    let staging = work.join("done");
    fs::create_dir_all(&staging).with_context(|| format!("create {}", staging.display()))?;
    make::strip(&tree.join("vmlinux"), &staging.join("vmlinux"))?;
    copy(&tree.join("System.map"), &staging.join("System.map"))?;
    copy(&tree.join(".config"), &staging.join("kernel.config"))?;
    cache.store(key, &staging)?;
    cache.remove_work_dirs()
}

/// Writes `.config` and checks that every symbol asked for is in it with the value asked for.
fn configure(tree: &Path, work: &Path, wanted: &Wanted) -> Result<()> {
    let merged = work.join("merged.config");
    fs::write(&merged, wanted.merged()).with_context(|| format!("write {}", merged.display()))?;
    make::configure(tree, &merged, &work.join("make.log"))?;
    let path = tree.join(".config");
    let config = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let refused = wanted.refused_by(&config);
    if refused.is_empty() {
        return Ok(());
    }
    bail!(
        "the kernel's Kconfig does not grant what {RECIPE_DIR} asks for:\n  {}\n\
         a dependency is missing or the symbol has another name in this version; change the fragment named",
        refused.join("\n  ")
    )
}

/// Puts the artifacts of `entry` into `dir`, each by rename, so that a reader never sees half a kernel.
fn publish(entry: &Path, dir: &Path) -> Result<PathBuf> {
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    for name in ARTIFACTS {
        let (from, to, part) = (entry.join(name), dir.join(name), dir.join(format!(".{name}.part")));
        if part.exists() {
            fs::remove_file(&part).with_context(|| format!("remove {}", part.display()))?;
        }
        // The cache may be on another filesystem, where a hard link cannot be had.
        if fs::hard_link(&from, &part).is_err() {
            copy(&from, &part)?;
        }
        fs::rename(&part, &to).with_context(|| format!("rename {} to {}", part.display(), to.display()))?;
        // Renaming one hard link onto another of the same file does nothing and leaves both.
        if part.exists() {
            fs::remove_file(&part).with_context(|| format!("remove {}", part.display()))?;
        }
    }
    Ok(dir.join("vmlinux"))
}

/// Warns when no one has recorded that this source version builds and boots.
fn warn_if_untested(recipe: &Path, version: &str) -> Result<()> {
    let path = recipe.join("tested-versions");
    let tested = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    if !lists_version(&tested, version) {
        let advice = format!("if it builds and boots, add it to {RECIPE_DIR}/tested-versions");
        say("kernel", &format!("warning: linux-source-6.1 {version} is not tested; {advice}"));
    }
    Ok(())
}

/// Whether `tested` (one version a line, `#` comments) names `version`.
fn lists_version(tested: &str, version: &str) -> bool {
    tested.lines().map(str::trim).any(|line| line == version && !line.starts_with('#'))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_tested_only_when_a_whole_line_names_it() {
        let tested = "# Debian 12\n6.1.192-2\n 6.1.200-1 \n";
        assert!(lists_version(tested, "6.1.192-2"));
        assert!(lists_version(tested, "6.1.200-1"));
        assert!(!lists_version(tested, "6.1.192"));
        assert!(!lists_version(tested, "# Debian 12"));
    }

    #[test]
    fn publishing_twice_replaces_the_files_and_leaves_nothing_else() {
        let dir = std::env::temp_dir().join(format!("carve-publish-{}", std::process::id()));
        let (entry, out) = (dir.join("entry"), dir.join("out"));
        fs::create_dir_all(&entry).unwrap();
        for round in ["first", "second", "second"] {
            for name in ARTIFACTS {
                // A new file, as a new cache entry has; the last round publishes the same one again.
                if fs::read_to_string(entry.join(name)).ok().as_deref() != Some(round) {
                    fs::remove_file(entry.join(name)).ok();
                    fs::write(entry.join(name), round).unwrap();
                }
            }
            let vmlinux = publish(&entry, &out).unwrap();
            assert_eq!(fs::read_to_string(vmlinux).unwrap(), round);
            assert_eq!(fs::read_dir(&out).unwrap().count(), ARTIFACTS.len());
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
