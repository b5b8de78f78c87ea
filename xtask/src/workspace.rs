//! Where things are.

use std::path::{Path, PathBuf};

/// The checkout that this xtask was built from.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask is a folder of the workspace")
}

/// A path below the build directory, which is always the checkout's own, so that what the README names is there.
pub(crate) fn target(path: &str) -> PathBuf {
    root().join("target").join(path)
}

/// The binary that set-up builds.
pub(crate) fn carve() -> PathBuf {
    target("release/carve")
}
