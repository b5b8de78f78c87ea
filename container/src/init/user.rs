//! User, groups and umask of the program, and its capabilities with them.

use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Gid, Mode, Uid, fchown, fstat};
use rustix::io::Errno;
use rustix::process::umask;
use rustix::thread::{set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::capabilities;
use crate::plan::ProcessPlan;
use crate::step::{At, StepError};

const STEP: &str = "user";

/// Changes to the program's user with exactly the capabilities wanted; returns a warning when some cannot be had.
pub(super) fn become_user(process: &ProcessPlan) -> Result<Option<String>, StepError> {
    capabilities::limit_bounding_set(process.capabilities)?;
    // Without this, leaving user 0 would drop capabilities that are wanted.
    set_keep_capabilities(true).at(STEP, "keeping capabilities")?;
    let groups: Vec<Gid> = process.additional_gids.iter().copied().map(Gid::from_raw).collect();
    match set_thread_groups(&groups) {
        // Whoever mapped only the own id may not (user_namespaces(7), "setgroups"). No group is asked for either.
        Err(Errno::PERM) if groups.is_empty() => {}
        result => result.at(STEP, "additional groups")?,
    }
    let gid = Gid::from_raw(process.gid);
    set_thread_res_gid(gid, gid, gid).at(STEP, format_args!("group {}", process.gid))?;
    let uid = Uid::from_raw(process.uid);
    set_thread_res_uid(uid, uid, uid).at(STEP, format_args!("user {}", process.uid))?;
    umask(Mode::from_raw_mode(process.umask));
    capabilities::set(process.capabilities)
}

/// Gives pipes to a user other than root, who could not open them by /dev/stdout otherwise. Files and terminals
/// stay whose they are.
pub(super) fn own_pipes(streams: [BorrowedFd<'_>; 3], process: &ProcessPlan, in_user_namespace: bool) {
    let uid = process.uid;
    if uid == 0 || in_user_namespace {
        return;
    }
    for stream in streams {
        let is_pipe = fstat(stream).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_fifo());
        if is_pipe {
            // A pipe that is not ours to give works all the same, by its descriptor.
            let _not_ours = fchown(stream, Some(Uid::from_raw(uid)), None);
        }
    }
}
