//! The program's working directory.

use std::ffi::{CStr, OsStr};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{chdir, getcwd};

use super::target::{self, Kind};
use crate::plan::Plan;
use crate::step::{At, StepError};

const STEP: &str = "working directory";

/// Makes it where the image has none. Whether that worked shows when it is entered.
pub(super) fn create(root: BorrowedFd<'_>, plan: &Plan) {
    let path = Path::new(OsStr::from_bytes(plan.process.cwd.as_bytes()));
    if path != Path::new("/") {
        let _shows_later = target::open_or_make(root, path, Kind::Directory);
    }
}

/// Enters it as the program's user, and makes sure that it is inside the container: a path like /proc/self/fd/7
/// could lead to a directory of the host if a descriptor of one were still open (CVE-2024-21626).
pub(super) fn enter(cwd: &CStr) -> Result<(), StepError> {
    chdir(cwd).at(STEP, cwd.to_string_lossy())?;
    let reached = getcwd(Vec::new()).at(STEP, cwd.to_string_lossy())?;
    if reached.as_bytes().first() != Some(&b'/') {
        return Err(StepError::new(STEP, cwd.to_string_lossy(), "leads out of the container"));
    }
    Ok(())
}
