//! Finishes the namespaces that clone3 made, and makes those that it cannot.

use std::fs::{self, File};
use std::os::fd::AsFd;

use rustix::thread::{Gid, Uid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space, set_thread_res_gid, set_thread_res_uid};

use crate::channel::{InitEnd, Order};
use crate::plan::Plan;
use crate::step::{At, StepError};
use crate::sys;

const STEP: &str = "namespaces";

/// Becomes root of its user namespace, makes a time namespace, and brings up the loopback of a new network namespace.
pub(super) fn enter(plan: &Plan, channel: &InitEnd) -> Result<(), StepError> {
    if plan.namespaces.new_user() {
        channel.wait_for(Order::Mapped).at(STEP, "waiting for the id maps")?;
    }
    if let Some(offsets) = &plan.namespaces.new_time {
        new_time(offsets)?;
    }
    if plan.namespaces.has_own_user() {
        become_root()?;
    }
    if plan.namespaces.new_network() {
        sys::bring_up_loopback().at("loopback", "lo")?;
    }
    Ok(())
}

/// Becomes user and group 0 of the user namespace that this process is in now.
pub(super) fn become_root() -> Result<(), StepError> {
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).at(STEP, "group 0 of the user namespace")?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).at(STEP, "user 0 of the user namespace")
}

/// Waits until it is in its cgroups.
pub(super) fn wait_for_cgroup(channel: &InitEnd) -> Result<(), StepError> {
    channel.wait_for(Order::Joined).at("cgroup", "waiting to go into it")
}

/// Makes the groups that it is in its cgroup namespace's root.
pub(super) fn own_cgroup(plan: &Plan) -> Result<(), StepError> {
    if plan.namespaces.new_cgroup {
        sys::unshare_cgroup().at(STEP, "cgroup")?;
    }
    Ok(())
}

/// Makes a time namespace, sets its clocks while nobody is in it, and moves there (time_namespaces(7)). While this
/// process has the ids of its creator, to which the files of its /proc/PID belong.
fn new_time(offsets: &str) -> Result<(), StepError> {
    sys::unshare_time().at(STEP, "time")?;
    if !offsets.is_empty() {
        fs::write("/proc/self/timens_offsets", offsets).at(STEP, "linux.timeOffsets")?;
    }
    let path = "/proc/self/ns/time_for_children";
    let namespace = File::open(path).at(STEP, path)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Time)).at(STEP, path)
}
