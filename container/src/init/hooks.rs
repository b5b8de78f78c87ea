//! The hooks that init has part in.

use rustix::process::getpid;

use crate::channel::{InitEnd, Order, Report};
use crate::hooks::{self, Hook};
use crate::plan::Plan;
use crate::step::{At, StepError};

const STEP: &str = "hooks";

/// Has the creator run its hooks, then runs those of the container's namespaces.
pub(super) fn before_pivot(plan: &Plan, channel: &InitEnd) -> Result<(), StepError> {
    channel.report(&Report::HooksDue);
    channel.wait_for(Order::Hooked).at(STEP, "waiting for the creator's")?;
    run(&plan.hooks.create_container, plan, "creating")
}

/// Runs those that come just before the container's program, in the container.
pub(super) fn before_program(plan: &Plan) -> Result<(), StepError> {
    run(&plan.hooks.start_container, plan, "created")
}

fn run(hooks: &[Hook], plan: &Plan, status: &'static str) -> Result<(), StepError> {
    if hooks.is_empty() {
        return Ok(());
    }
    let state = plan.identity.state(status, getpid().as_raw_nonzero().get());
    hooks::run_all(hooks, &state).map_err(|error| {
        StepError::new(STEP, error.field, format!("{}: {}", error.path.display(), error.reason))
    })
}
