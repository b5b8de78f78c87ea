//! `linux.timeOffsets`: how far the clocks of a new time namespace are from the host's.

use std::collections::HashMap;
use std::fmt::Write;

use oci_spec::runtime::LinuxTimeOffset;

use super::{PlanError, invalid};

/// Seconds that the kernel takes: half of what a clock of 64-bit nanoseconds counts.
const MAX_SECONDS: i64 = i64::MAX / 1_000_000_000 / 2;

/// The text for `timens_offsets` (time_namespaces(7)); `is_new`: the namespace is made with the container.
pub(super) fn plan(offsets: &HashMap<String, LinuxTimeOffset>, is_new: bool) -> Result<String, PlanError> {
    let mut clocks: Vec<_> = offsets.iter().collect();
    clocks.sort_unstable_by_key(|(clock, _)| *clock);
    let mut text = String::new();
    for (clock, offset) in clocks {
        let field = format!("linux.timeOffsets.{clock}");
        let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(invalid(field, clock, "only the clocks monotonic and boottime can be moved"));
        }
        if !is_new {
            let reason =
                "needs a new time namespace; add {\"type\": \"time\"}, without a path, to linux.namespaces";
            return Err(invalid(field, clock, reason));
        }
        if !(-MAX_SECONDS..=MAX_SECONDS).contains(&seconds) {
            return Err(invalid(field + ".secs", seconds, "is more than the kernel's clocks count"));
        }
        if nanoseconds >= 1_000_000_000 {
            return Err(invalid(field + ".nanosecs", nanoseconds, "must be below a second, 1000000000"));
        }
        let _infallible = writeln!(text, "{clock} {seconds} {nanoseconds}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, is_new: bool) -> Result<String, PlanError> {
        plan(&serde_json::from_str(json).unwrap(), is_new)
    }

    #[test]
    fn each_clock_is_a_line() {
        let text = read(r#"{"monotonic": {"secs": -7, "nanosecs": 5}, "boottime": {"secs": 9}}"#, true);
        assert_eq!(text.unwrap(), "boottime 9 0\nmonotonic -7 5\n");
    }

    #[test]
    fn what_no_clock_can_do_is_refused_by_name() {
        for (json, is_new, field) in [
            (r#"{"realtime": {"secs": 1}}"#, true, "linux.timeOffsets.realtime"),
            (r#"{"boottime": {"secs": 1}}"#, false, "linux.timeOffsets.boottime"),
            (r#"{"boottime": {"nanosecs": 1000000000}}"#, true, "linux.timeOffsets.boottime.nanosecs"),
            (r#"{"boottime": {"secs": 9223372036854775807}}"#, true, "linux.timeOffsets.boottime.secs"),
        ] {
            let error = read(json, is_new).unwrap_err().to_string();
            assert!(error.contains(field), "{json}: {error}");
        }
    }
}
