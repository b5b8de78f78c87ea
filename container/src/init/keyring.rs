//! The session keyring that all processes of a container share.

use std::ffi::CString;

use rustix::io::Errno;

use crate::step::{At, StepError};
use crate::sys;

/// Leaves the keys of whoever started this behind, for the keyring of the container `id`.
pub(super) fn join(id: &str) -> Result<(), StepError> {
    let name = format!("_ses.{id}");
    let joined = CString::new(name.as_str())
        .map_err(|_| Errno::INVAL)
        .and_then(|name| sys::join_session_keyring(&name));
    match joined {
        // A kernel without keyrings has nothing to keep apart.
        Err(Errno::NOSYS) => Ok(()),
        result => result.at("keyring", name),
    }
}
