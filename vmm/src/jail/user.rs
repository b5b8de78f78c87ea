//! Who a jailed VMM is.

use rustix::process::{
    DumpableBehavior, Gid, Signal, Uid, set_dumpable_behavior, set_parent_process_death_signal,
};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::JailError;

/// Becomes a user without rights, for good.
///
/// # Errors
/// The host refuses.
pub(super) fn become_unprivileged(uid: u32, gid: u32) -> Result<(), JailError> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // Of the calling thread, which is the only one.
    set_thread_groups(&[])
        .and_then(|()| set_thread_res_gid(gid, gid, gid))
        .and_then(|()| set_thread_res_uid(uid, uid, uid))
        .map_err(JailError::of("become a user without rights"))?;
    // Changing the user has cleared it.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(JailError::of("die with its parent"))
}

/// Nothing that is executed gains rights, and no other process of that user looks into this one.
///
/// # Errors
/// The host refuses.
pub(super) fn forbid_new_privileges() -> Result<(), JailError> {
    set_no_new_privs(true).map_err(JailError::of("renounce new privileges"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(JailError::of("forbid looking into it"))
}
