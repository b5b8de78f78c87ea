//! Host and NIS domain name.

use rustix::system::{setdomainname, sethostname};

use crate::plan::Plan;
use crate::step::{At, StepError};

/// Sets the names that are configured; the plan has made sure that they are the container's own.
pub(super) fn set(plan: &Plan) -> Result<(), StepError> {
    if let Some(name) = &plan.hostname {
        sethostname(name.as_bytes()).at("hostname", name)?;
    }
    if let Some(name) = &plan.domainname {
        setdomainname(name.as_bytes()).at("domainname", name)?;
    }
    Ok(())
}
