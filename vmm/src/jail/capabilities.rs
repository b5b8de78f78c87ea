//! Capabilities of a jailed VMM (capabilities(7)): none.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities,
};

use super::JailError;

/// Takes everything out of the bounding set, while this process still may: nothing it executes could gain any.
///
/// # Errors
/// The host refuses.
pub(super) fn limit_bounding_set() -> Result<(), JailError> {
    for number in 0..64 {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            // Past the last capability that this kernel knows.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(JailError::of("limit what capabilities it could gain")(error)),
        }
    }
    Ok(())
}

/// Empties the other sets.
///
/// # Errors
/// The host refuses.
pub(super) fn drop_all() -> Result<(), JailError> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    clear_ambient_capability_set()
        .and_then(|()| set_capabilities(None, sets))
        .map_err(JailError::of("drop its capabilities"))
}
