//! `carve oci update ID`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use container::runtime::Runtime;
use serde_json::{Map, Value, json};

use super::Outcome;

const EXAMPLES: &str = "\
Examples:
  carve oci update --memory 256m --pids-limit 100 web1
  carve oci update --cpu-quota 50000 --cpu-period 100000 web1
  echo '{\"cpu\": {\"shares\": 512}}' | carve oci update --resources - web1";

/// The most that is read of a file with limits, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A file with limits in the shape of linux.resources in config.json; `-` is standard input; flags win over it
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    #[command(flatten)]
    memory: Memory,
    #[command(flatten)]
    cpu: Cpu,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,
    /// The most processes and threads; -1 for any number
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Refused: carve does not manage caches of the CPU
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Refused: carve does not manage the bandwidth of memory
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Debug, clap::Args)]
struct Memory {
    /// The most memory, in bytes or like 256m; -1 for no limit
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = parse_bytes)]
    memory: Option<i64>,
    /// Memory that is kept for the container when the host runs short
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = parse_bytes)]
    memory_reservation: Option<i64>,
    /// The most memory and swap together; -1 for no limit on swap
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = parse_bytes)]
    memory_swap: Option<i64>,
    /// Ignored: Linux no longer limits the kernel's memory apart
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = parse_bytes)]
    kernel_memory: Option<i64>,
    /// The most memory for buffers of TCP; cgroup v1 only
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = parse_bytes)]
    kernel_memory_tcp: Option<i64>,
}

#[derive(Debug, clap::Args)]
struct Cpu {
    /// The period of the quota, in microseconds
    #[arg(long, value_name = "US")]
    cpu_period: Option<u64>,
    /// CPU time in a period, in microseconds; -1 for no limit
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// Unused CPU time that may be used later, in microseconds
    #[arg(long, value_name = "US")]
    cpu_burst: Option<u64>,
    /// Weight against other groups: 2 to 262144
    #[arg(long, visible_alias = "cpu-shares", value_name = "N")]
    cpu_share: Option<u64>,
    /// The period of real-time processes, in microseconds; cgroup v1 only
    #[arg(long, value_name = "US")]
    cpu_rt_period: Option<u64>,
    /// CPU time of real-time processes in a period, in microseconds; cgroup v1 only
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    cpu_rt_runtime: Option<i64>,
    /// 1: run only when nobody else does
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<i64>,
    /// The CPUs to run on, like 0-3,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// The memory nodes to use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
}

pub(super) fn run(runtime: &Runtime, args: Args) -> Outcome {
    if args.l3_cache_schema.is_some() || args.mem_bw_schema.is_some() {
        bail!("--l3-cache-schema and --mem-bw-schema are not supported (linux.intelRdt); leave them out");
    }
    let mut change = args.resources.as_deref().map(read).transpose()?.unwrap_or_else(|| json!({}));
    let Value::Object(members) = &mut change else {
        bail!("--resources: must be a JSON object like linux.resources in config.json");
    };
    let Args { memory, cpu, .. } = args;
    put(
        members,
        "memory",
        [
            ("limit", memory.memory.map(Value::from)),
            ("reservation", memory.memory_reservation.map(Value::from)),
            ("swap", memory.memory_swap.map(Value::from)),
            ("kernel", memory.kernel_memory.map(Value::from)),
            ("kernelTCP", memory.kernel_memory_tcp.map(Value::from)),
        ],
    );
    put(
        members,
        "cpu",
        [
            ("period", cpu.cpu_period.map(Value::from)),
            ("quota", cpu.cpu_quota.map(Value::from)),
            ("burst", cpu.cpu_burst.map(Value::from)),
            ("shares", cpu.cpu_share.map(Value::from)),
            ("realtimePeriod", cpu.cpu_rt_period.map(Value::from)),
            ("realtimeRuntime", cpu.cpu_rt_runtime.map(Value::from)),
            ("idle", cpu.cpu_idle.map(Value::from)),
            ("cpus", cpu.cpuset_cpus.map(Value::from)),
            ("mems", cpu.cpuset_mems.map(Value::from)),
        ],
    );
    put(members, "blockIO", [("weight", args.blkio_weight.map(Value::from))]);
    put(members, "pids", [("limit", args.pids_limit.map(Value::from))]);
    runtime.update(&args.id, change)?;
    Ok(0)
}

/// Puts what is given into the object `section` of `change`.
fn put<const N: usize>(change: &mut Map<String, Value>, section: &str, given: [(&str, Option<Value>); N]) {
    for (key, value) in given {
        let Some(value) = value else { continue };
        let members = change.entry(section).or_insert_with(|| json!({}));
        if let Value::Object(members) = members {
            members.insert(key.to_owned(), value);
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let mut json = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(MAX_FILE_BYTES).read_to_end(&mut json)
    } else {
        File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut json))
    };
    read.with_context(|| format!("--resources: cannot read {}", path.display()))?;
    serde_json::from_slice(&json).with_context(|| format!("--resources: {} is not JSON", path.display()))
}

/// Bytes with a unit, or -1.
fn parse_bytes(text: &str) -> Result<i64, String> {
    // 0 leaves things as they are.
    match text {
        "-1" => return Ok(-1),
        "0" => return Ok(0),
        _ => {}
    }
    let bytes = crate::format::parse_size(text)?;
    i64::try_from(bytes).map_err(|_| format!("{text} is too much"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_laid_over_a_file() {
        let mut change = json!({"cpu": {"shares": 2, "quota": 7}});
        if let Value::Object(members) = &mut change {
            put(members, "cpu", [("shares", Some(Value::from(9))), ("period", None)]);
            put(members, "pids", [("limit", Some(Value::from(-1)))]);
        }
        assert_eq!(change, json!({"cpu": {"shares": 9, "quota": 7}, "pids": {"limit": -1}}));
    }

    #[test]
    fn memory_has_units_and_no_limit_is_minus_one() {
        assert_eq!(parse_bytes("-1"), Ok(-1));
        assert_eq!(parse_bytes("256m"), Ok(256 << 20));
        assert!(parse_bytes("-2").is_err() && parse_bytes("lots").is_err());
    }
}
