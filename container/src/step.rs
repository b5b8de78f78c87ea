//! What went wrong in which step of a container's set-up, in a form that crosses from the init process to its
//! parent.

use std::borrow::Cow;
use std::fmt::Display;
use std::io;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// A step of the container's set-up that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{step}: {subject}: {reason}")]
pub struct StepError {
    /// The step's name, which is its file's name in `init/`.
    pub step: Cow<'static, str>,
    /// The path, name or value it was about.
    pub subject: String,
    /// What was wrong.
    pub reason: String,
    /// The kernel's answer, where there was one.
    pub errno: Option<i32>,
}

impl StepError {
    /// A failure that is no system call's.
    pub(crate) fn new(step: &'static str, subject: impl Display, reason: impl Display) -> Self {
        Self {
            step: Cow::Borrowed(step),
            subject: subject.to_string(),
            reason: reason.to_string(),
            errno: None,
        }
    }
}

/// Says in which step and about what a system call failed.
pub(crate) trait At<T> {
    /// Turns the error into a [`StepError`].
    fn at(self, step: &'static str, subject: impl Display) -> Result<T, StepError>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, step: &'static str, subject: impl Display) -> Result<T, StepError> {
        self.map_err(io::Error::from).at(step, subject)
    }
}

impl<T> At<T> for io::Result<T> {
    fn at(self, step: &'static str, subject: impl Display) -> Result<T, StepError> {
        self.map_err(|error| StepError {
            errno: error.raw_os_error(),
            ..StepError::new(step, subject, &error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_step_subject_and_reason() {
        let error = Err::<(), _>(Errno::NOENT).at("mounts", "/proc").unwrap_err();
        assert_eq!(error.to_string(), "mounts: /proc: No such file or directory (os error 2)");
        assert_eq!(error.errno, Some(libc::ENOENT));
    }
}
