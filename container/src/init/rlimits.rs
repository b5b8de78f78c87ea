//! Resource limits, as far as the host allows.

use rustix::io::Errno;
use rustix::process::{Rlimit, getrlimit, setrlimit};

use crate::plan::RlimitPlan;
use crate::step::{At, StepError};

/// Sets the limits. A hard limit that may not be raised that far stays where it is, and the warning says so.
pub(super) fn set(limits: &[RlimitPlan]) -> Result<Option<String>, StepError> {
    let mut clamped = Vec::new();
    for limit in limits {
        let name = format!("{:?}", limit.resource);
        let wanted = Rlimit { current: limit.soft, maximum: limit.hard };
        match setrlimit(limit.resource, wanted) {
            Err(Errno::PERM) => {
                let allowed = getrlimit(limit.resource).maximum;
                setrlimit(limit.resource, clamp(wanted, allowed)).at("rlimits", &name)?;
                clamped.push(name);
            }
            result => result.at("rlimits", name)?,
        }
    }
    Ok((!clamped.is_empty()).then(|| {
        format!("resource limits lower than asked for, as the host's hard limits are: {}", clamped.join(", "))
    }))
}

/// `None` is unlimited.
fn clamp(wanted: Rlimit, allowed: Option<u64>) -> Rlimit {
    let lower = |value: Option<u64>| match (value, allowed) {
        (Some(value), Some(allowed)) => Some(value.min(allowed)),
        (value, allowed) => value.or(allowed),
    };
    Rlimit { current: lower(wanted.current), maximum: lower(wanted.maximum) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_lowered_to_what_is_allowed() {
        let limit = |current, maximum| Rlimit { current, maximum };
        let cases = [
            (limit(Some(5), Some(9)), Some(7), limit(Some(5), Some(7))),
            (limit(None, None), Some(7), limit(Some(7), Some(7))),
            (limit(Some(9), None), Some(7), limit(Some(7), Some(7))),
            (limit(Some(9), None), None, limit(Some(9), None)),
        ];
        for (wanted, allowed, expected) in cases {
            assert_eq!(clamp(wanted, allowed), expected);
        }
    }
}
