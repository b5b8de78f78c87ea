//! The container's first process: program, environment, credentials and limits.

use std::ffi::CString;

use oci_spec::runtime::{Capability, LinuxCapabilities, PosixRlimit, PosixRlimitType, Process};
use rustix::process::Resource;
use rustix::termios::Winsize;

use super::{ExecAffinity, PlanError, invalid, scheduling};
use crate::sys::{CStringArray, SchedAttr};

/// Where programs are looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything about the process, ready for the system calls.
#[derive(Debug)]
pub(crate) struct ProcessPlan {
    pub(crate) args: CStringArray,
    pub(crate) env: CStringArray,
    /// The paths to try to execute, in order.
    pub(crate) programs: Vec<CString>,
    pub(crate) cwd: CString,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) additional_gids: Vec<u32>,
    pub(crate) umask: u32,
    /// The terminal that it is to have.
    pub(crate) terminal: Option<TerminalPlan>,
    pub(crate) capabilities: Capabilities,
    pub(crate) rlimits: Vec<RlimitPlan>,
    pub(crate) no_new_privileges: bool,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) scheduler: Option<SchedAttr>,
    /// Class and priority of disk accesses, as ioprio_set(2) takes them.
    pub(crate) io_priority: Option<u32>,
    /// For further processes only, not for the container's first.
    pub(crate) exec_affinity: ExecAffinity,
}

/// The five capability sets, one bit a capability (capabilities(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
    pub(crate) ambient: u64,
}

/// A terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TerminalPlan {
    /// Its size, if it is known.
    pub(crate) size: Option<Winsize>,
}

/// A resource limit; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RlimitPlan {
    pub(crate) resource: Resource,
    pub(crate) soft: Option<u64>,
    pub(crate) hard: Option<u64>,
}

impl ProcessPlan {
    /// The program's name, as it was given.
    pub(crate) fn name(&self) -> String {
        self.args.strings().first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Reads `process`.
    pub(crate) fn new(process: &Process) -> Result<Self, PlanError> {
        let args = c_strings("process.args", process.args().iter().flatten())?;
        let env = c_strings("process.env", process.env().iter().flatten())?;
        let Some(program) = args.first() else {
            return Err(PlanError::Missing { field: "process.args" });
        };
        let cwd = process.cwd();
        if !cwd.is_absolute() {
            return Err(invalid("process.cwd", cwd.display(), "must be an absolute path"));
        }
        let user = process.user();
        let affinity = process.exec_cpu_affinity();
        Ok(Self {
            programs: programs(program, &env),
            cwd: c_string("process.cwd", cwd.as_os_str().as_encoded_bytes())?,
            uid: checked_id("process.user.uid", user.uid())?,
            gid: checked_id("process.user.gid", user.gid())?,
            additional_gids: user
                .additional_gids()
                .iter()
                .flatten()
                .map(|gid| checked_id("process.user.additionalGids", *gid))
                .collect::<Result<_, _>>()?,
            terminal: terminal(process)?,
            umask: user.umask().unwrap_or(0o022) & 0o777,
            capabilities: process.capabilities().as_ref().map(Capabilities::new).unwrap_or_default(),
            rlimits: rlimits(process.rlimits().as_deref().unwrap_or_default())?,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            oom_score_adj: oom_score_adj(process.oom_score_adj())?,
            scheduler: process.scheduler().as_ref().map(scheduling::scheduler).transpose()?,
            io_priority: process.io_priority().as_ref().map(scheduling::io_priority).transpose()?,
            exec_affinity: affinity.as_ref().map(scheduling::exec_affinity).transpose()?.unwrap_or_default(),
            args: CStringArray::new(args),
            env: CStringArray::new(env),
        })
    }
}

/// Runtime specification, `process.consoleSize`: to be ignored where there is no terminal.
fn terminal(process: &Process) -> Result<Option<TerminalPlan>, PlanError> {
    if process.terminal() != Some(true) {
        return Ok(None);
    }
    let cells = |field: &str, count: u64| {
        u16::try_from(count)
            .map_err(|_| invalid(format!("process.consoleSize.{field}"), count, "is above 65535"))
    };
    let Some(size) = process.console_size() else { return Ok(Some(TerminalPlan { size: None })) };
    let (ws_row, ws_col) = (cells("height", size.height())?, cells("width", size.width())?);
    Ok(Some(TerminalPlan { size: Some(Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }) }))
}

fn c_strings<'a>(field: &str, strings: impl Iterator<Item = &'a String>) -> Result<Vec<CString>, PlanError> {
    strings.map(|string| c_string(field, string.as_bytes())).collect()
}

fn c_string(field: &str, bytes: &[u8]) -> Result<CString, PlanError> {
    CString::new(bytes).map_err(|_| invalid(field, String::from_utf8_lossy(bytes), "holds a NUL byte"))
}

/// All ones means "no change" to the kernel, so it is no id.
fn checked_id(field: &str, id: u32) -> Result<u32, PlanError> {
    if id == u32::MAX {
        return Err(invalid(field, id, "is no id"));
    }
    Ok(id)
}

/// A program with a slash is that file; another is looked for along the container's own `PATH`.
fn programs(program: &CString, env: &[CString]) -> Vec<CString> {
    if program.as_bytes().contains(&b'/') || program.is_empty() {
        return vec![program.clone()];
    }
    let path = env.iter().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="));
    path.unwrap_or(DEFAULT_PATH.as_bytes())
        .split(|byte| *byte == b':')
        .filter_map(|dir| {
            // An empty entry is the current directory (environ(7)).
            let dir = if dir.is_empty() { b"." } else { dir };
            CString::new([dir, b"/", program.as_bytes()].concat()).ok()
        })
        .collect()
}

fn oom_score_adj(value: Option<i32>) -> Result<Option<i32>, PlanError> {
    match value {
        Some(value) if !(-1000..=1000).contains(&value) => {
            Err(invalid("process.oomScoreAdj", value, "must be between -1000 and 1000"))
        }
        value => Ok(value),
    }
}

fn rlimits(limits: &[PosixRlimit]) -> Result<Vec<RlimitPlan>, PlanError> {
    let mut planned: Vec<RlimitPlan> = Vec::with_capacity(limits.len());
    for limit in limits {
        let resource = resource(limit.typ());
        if planned.iter().any(|other| other.resource == resource) {
            return Err(invalid("process.rlimits", limit.typ(), "is listed twice"));
        }
        if limit.soft() > limit.hard() {
            return Err(invalid("process.rlimits", limit.typ(), "has a soft limit above its hard one"));
        }
        let finite = |value: u64| (value != u64::MAX).then_some(value);
        planned.push(RlimitPlan { resource, soft: finite(limit.soft()), hard: finite(limit.hard()) });
    }
    Ok(planned)
}

fn resource(kind: PosixRlimitType) -> Resource {
    use PosixRlimitType as Type;
    match kind {
        Type::RlimitCpu => Resource::Cpu,
        Type::RlimitFsize => Resource::Fsize,
        Type::RlimitData => Resource::Data,
        Type::RlimitStack => Resource::Stack,
        Type::RlimitCore => Resource::Core,
        Type::RlimitRss => Resource::Rss,
        Type::RlimitNproc => Resource::Nproc,
        Type::RlimitNofile => Resource::Nofile,
        Type::RlimitMemlock => Resource::Memlock,
        Type::RlimitAs => Resource::As,
        Type::RlimitLocks => Resource::Locks,
        Type::RlimitSigpending => Resource::Sigpending,
        Type::RlimitMsgqueue => Resource::Msgqueue,
        Type::RlimitNice => Resource::Nice,
        Type::RlimitRtprio => Resource::Rtprio,
        Type::RlimitRttime => Resource::Rttime,
    }
}

impl Capabilities {
    fn new(sets: &LinuxCapabilities) -> Self {
        let mask = |set: &Option<std::collections::HashSet<Capability>>| {
            set.iter().flatten().fold(0, |mask, capability| mask | 1 << number(*capability))
        };
        Self {
            bounding: mask(sets.bounding()),
            effective: mask(sets.effective()),
            permitted: mask(sets.permitted()),
            inheritable: mask(sets.inheritable()),
            ambient: mask(sets.ambient()),
        }
    }
}

/// All capabilities, in the order of their numbers in linux/capability.h.
const CAPABILITIES: [Capability; 41] = {
    use Capability as C;
    [
        C::Chown,
        C::DacOverride,
        C::DacReadSearch,
        C::Fowner,
        C::Fsetid,
        C::Kill,
        C::Setgid,
        C::Setuid,
        C::Setpcap,
        C::LinuxImmutable,
        C::NetBindService,
        C::NetBroadcast,
        C::NetAdmin,
        C::NetRaw,
        C::IpcLock,
        C::IpcOwner,
        C::SysModule,
        C::SysRawio,
        C::SysChroot,
        C::SysPtrace,
        C::SysPacct,
        C::SysAdmin,
        C::SysBoot,
        C::SysNice,
        C::SysResource,
        C::SysTime,
        C::SysTtyConfig,
        C::Mknod,
        C::Lease,
        C::AuditWrite,
        C::AuditControl,
        C::Setfcap,
        C::MacOverride,
        C::MacAdmin,
        C::Syslog,
        C::WakeAlarm,
        C::BlockSuspend,
        C::AuditRead,
        C::Perfmon,
        C::Bpf,
        C::CheckpointRestore,
    ]
};

/// All capabilities.
pub(crate) fn all_capabilities() -> [Capability; 41] {
    CAPABILITIES
}

/// A capability's number in linux/capability.h.
fn number(capability: Capability) -> usize {
    CAPABILITIES.iter().position(|known| *known == capability).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<ProcessPlan, PlanError> {
        ProcessPlan::new(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_bare_program_is_looked_for_along_the_containers_path() {
        let plan = plan(r#"{"user": {}, "cwd": "/", "args": ["sh"], "env": ["PATH=/a::/b"]}"#).unwrap();
        assert_eq!(plan.programs, [c"/a/sh".to_owned(), c"./sh".to_owned(), c"/b/sh".to_owned()]);
        assert_eq!(plan.umask, 0o022);
    }

    #[test]
    fn a_program_with_a_slash_is_that_file() {
        let plan = plan(r#"{"user": {}, "cwd": "/", "args": ["./sh"]}"#).unwrap();
        assert_eq!(plan.programs, [c"./sh".to_owned()]);
    }

    #[test]
    fn capability_names_become_bits() {
        let plan = plan(
            r#"{"user": {}, "cwd": "/", "args": ["sh"],
                "capabilities": {"bounding": ["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"], "ambient": ["CAP_KILL"]}}"#,
        )
        .unwrap();
        assert_eq!(plan.capabilities.bounding, 1 << 40 | 1);
        assert_eq!(plan.capabilities.ambient, 1 << 5);
        assert_eq!(plan.capabilities.effective, 0);
    }

    #[test]
    fn a_size_is_for_a_terminal_only() {
        let size =
            |json: &str| plan(json).map(|plan| plan.terminal.map(|terminal| terminal.size.map(|s| s.ws_row)));
        let with = |terminal: &str, height: u32| {
            format!(
                r#"{{"user": {{}}, "cwd": "/", "args": ["sh"], "terminal": {terminal},
                     "consoleSize": {{"height": {height}, "width": 5}}}}"#
            )
        };
        assert_eq!(size(&with("false", 65536)).unwrap(), None);
        assert_eq!(size(&with("true", 25)).unwrap(), Some(Some(25)));
        let error = size(&with("true", 65536)).unwrap_err().to_string();
        assert!(error.contains("process.consoleSize.height"), "{error}");
    }

    #[test]
    fn nonsense_is_refused() {
        for json in [
            r#"{"user": {}, "cwd": "/", "args": []}"#,
            r#"{"user": {}, "cwd": "x", "args": ["sh"]}"#,
            r#"{"user": {}, "cwd": "/", "args": ["s\u0000h"]}"#,
            r#"{"user": {"uid": 4294967295}, "cwd": "/", "args": ["sh"]}"#,
            r#"{"user": {}, "cwd": "/", "args": ["sh"], "oomScoreAdj": 1001}"#,
            r#"{"user": {}, "cwd": "/", "args": ["sh"],
                "rlimits": [{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]}"#,
            r#"{"user": {}, "cwd": "/", "args": ["sh"], "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 1},
                {"type": "RLIMIT_CORE", "soft": 1, "hard": 1}]}"#,
        ] {
            assert!(plan(json).is_err(), "{json}");
        }
    }
}
