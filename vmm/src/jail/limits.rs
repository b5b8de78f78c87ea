//! Resource limits of a jailed VMM (setrlimit(2)).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{JailConfig, JailError};
use crate::sys::signals::ignore_file_size_signal;

/// Most threads: as many vCPUs as there can be, and those that serve them.
const THREADS: u64 = 128;

/// Lowers the limits; one that is lower already stays.
///
/// # Errors
/// The host refuses.
pub(super) fn set(config: &JailConfig) -> Result<(), JailError> {
    let limits = [
        (Resource::Nofile, Some(config.descriptors)),
        (Resource::Nproc, Some(THREADS)),
        // A core would hold the guest's memory.
        (Resource::Core, Some(0)),
        (Resource::Msgqueue, Some(0)),
        (Resource::Fsize, config.file_bytes),
    ];
    for (resource, limit) in limits {
        let Some(limit) = limit else { continue };
        let now = getrlimit(resource);
        let limit = now.maximum.map_or(limit, |maximum| maximum.min(limit));
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
            .map_err(JailError::of("limit its resources"))?;
    }
    // A file that would become too long is an error of the device that writes it, not the end of the VMM.
    ignore_file_size_signal().map_err(JailError::of("ignore SIGXFSZ"))
}
