//! Kernel parameters of the container's own namespaces.

use std::fs::OpenOptions;
use std::io::Write;

use crate::plan::SysctlPlan;
use crate::step::{At, StepError};

/// Writes them through the host's /proc, whose files belong to the namespaces of whoever opens them.
pub(super) fn write(sysctls: &[SysctlPlan]) -> Result<(), StepError> {
    for SysctlPlan { path, value } in sysctls {
        OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(value.as_bytes()))
            .at("sysctl", format_args!("{} = {value}", path.display()))?;
    }
    Ok(())
}
