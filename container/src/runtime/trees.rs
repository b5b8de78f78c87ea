//! The host's cgroup trees, looked up when they are first asked for, and once for each command.

use std::cell::OnceCell;
use std::path::Path;
use std::rc::Rc;

use crate::cgroup::{CgroupError, Hierarchy};

/// The same trees for all who have a copy.
#[derive(Clone, Debug, Default)]
pub(super) struct Trees(Rc<OnceCell<Hierarchy>>);

impl Trees {
    /// The trees.
    ///
    /// # Errors
    /// When they cannot be looked up; the next call tries again.
    pub(super) fn get(&self) -> Result<&Hierarchy, CgroupError> {
        if let Some(known) = self.0.get() {
            return Ok(known);
        }
        let found = Hierarchy::detect(Path::new("/"))?;
        Ok(self.0.get_or_init(|| found))
    }
}
