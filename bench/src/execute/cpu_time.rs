//! CPU time of processes, to the nanosecond: the first field of `/proc/PID/task/TID/schedstat` (kernel:
//! Documentation/scheduler/sched-stats). A vCPU's thread is charged for the time its guest runs.

use std::fs;

/// CPU time of all threads of all `pids`, in nanoseconds; `None` when none can be read.
pub(super) fn total_ns(pids: &[u32]) -> Option<u64> {
    let times: Vec<u64> = pids.iter().flat_map(|pid| of_process(*pid)).collect();
    (!times.is_empty()).then(|| times.iter().sum())
}

fn of_process(pid: u32) -> Vec<u64> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let of_task = |path: std::path::PathBuf| {
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    tasks.flatten().filter_map(|task| of_task(task.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_with_work() {
        let me = [std::process::id()];
        let Some(before) = total_ns(&me) else {
            println!("skipped: this kernel keeps no schedstat");
            return;
        };
        let mut sum = 0_u64;
        for i in 0..3_000_000_u64 {
            sum = std::hint::black_box(sum.wrapping_add(i * i));
        }
        assert!(total_ns(&me).expect("read before") > before, "{sum}");
    }

    #[test]
    fn a_process_that_is_gone_has_none() {
        assert_eq!(total_ns(&[u32::MAX]), None);
    }
}
