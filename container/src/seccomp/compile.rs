//! From an OCI profile to a BPF program.
//!
//! For each architecture, the system calls are laid out as ranges of numbers with the same answer, and the program
//! searches them. What the profile does not name gets its default action; but numbers above the newest call it
//! names get ENOSYS, so that a program that tries a newer call falls back to an older one instead of failing.

use std::mem;
use std::path::PathBuf;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompFilterFlag as Flag, LinuxSyscall,
};

use super::architecture::{Architecture, NATIVE, secondary};
use super::bpf::Backwards;
use super::{Filter, Listener};

/// Longest program the kernel takes (BPF_MAXINSNS).
const MAX_INSTRUCTIONS: usize = 4096;
/// `SECCOMP_RET_ERRNO | ENOSYS`.
const NO_SUCH_CALL: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();

/// A profile that cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// Calls are to be asked about, and nobody is named who could answer.
    #[error("SCMP_ACT_NOTIFY needs listenerPath, the Unix socket of an agent that answers")]
    NoListener,
    /// The agent's socket cannot be found from everywhere.
    #[error("listenerPath: {path:?}: must be an absolute path of at most 107 bytes")]
    ListenerPath {
        /// The path given.
        path: PathBuf,
    },
    /// There is something to be told, and nobody to be told.
    #[error("listenerMetadata is for an agent; it needs listenerPath")]
    Metadata,
    /// A system call has six arguments.
    #[error("{call}: there is no argument {index}; arguments are numbered 0 to 5")]
    Argument {
        /// The system call.
        call: String,
        /// The number given.
        index: usize,
    },
    /// A rule without system calls.
    #[error("syscalls[{index}].names: a rule must name at least one system call")]
    NoNames {
        /// Which rule.
        index: usize,
    },
    /// An error number the filter cannot return.
    #[error("{errno} is no error number; use 1 to 4095")]
    Errno {
        /// The number given.
        errno: u32,
    },
    /// The program is longer than the kernel takes.
    #[error("the filter needs {instructions} instructions, more than the kernel's {MAX_INSTRUCTIONS}")]
    TooLong {
        /// Its length.
        instructions: usize,
    },
}

/// Compiles `profile` for this machine.
pub(super) fn compile(profile: &LinuxSeccomp) -> Result<Filter, SeccompError> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let listener = listener(profile)?;
    let rules: Vec<Rule<'_>> =
        profile.syscalls().iter().flatten().enumerate().map(Rule::new).collect::<Result<_, _>>()?;
    // The native one comes first.
    let listed = profile.architectures().as_deref().unwrap_or_default();
    let architectures: Vec<_> = [NATIVE].into_iter().chain(secondary(listed)).collect();
    tell_unknown(&architectures, &rules);
    let mut program = Backwards::new();
    write(&mut program, &architectures, &rules, default);
    let program = program.finish();
    if program.len() > MAX_INSTRUCTIONS {
        return Err(SeccompError::TooLong { instructions: program.len() });
    }
    let flags = flags(profile.flags().as_deref().unwrap_or_default(), listener.is_some());
    Ok(Filter { program, flags, listener })
}

/// The agent, if any call is asked about.
fn listener(profile: &LinuxSeccomp) -> Result<Option<Listener>, SeccompError> {
    let metadata = profile.listener_metadata().clone();
    let path = profile.listener_path().as_ref().filter(|path| !path.as_os_str().is_empty());
    let mut actions = profile.syscalls().iter().flatten().map(LinuxSyscall::action);
    let asks =
        profile.default_action() == Action::ScmpActNotify || actions.any(|a| a == Action::ScmpActNotify);
    let Some(path) = path else {
        return match (asks, metadata.filter(|metadata| !metadata.is_empty())) {
            (true, _) => Err(SeccompError::NoListener),
            (false, Some(_)) => Err(SeccompError::Metadata),
            (false, None) => Ok(None),
        };
    };
    // sockaddr_un, unix(7).
    if !path.is_absolute() || path.as_os_str().len() > 107 {
        return Err(SeccompError::ListenerPath { path: path.clone() });
    }
    Ok(asks.then(|| Listener { path: path.clone(), metadata: metadata.unwrap_or_default() }))
}

struct Rule<'a> {
    names: &'a [String],
    conditions: &'a [LinuxSeccompArg],
    action: u32,
}

impl<'a> Rule<'a> {
    fn new((index, syscall): (usize, &'a LinuxSyscall)) -> Result<Self, SeccompError> {
        if syscall.names().is_empty() {
            return Err(SeccompError::NoNames { index });
        }
        if let Some(arg) = syscall.args().iter().flatten().find(|arg| arg.index() > 5) {
            let call = syscall.names().join(", ");
            return Err(SeccompError::Argument { call, index: arg.index() });
        }
        Ok(Self {
            names: syscall.names(),
            conditions: syscall.args().as_deref().unwrap_or_default(),
            action: action(syscall.action(), syscall.errno_ret())?,
        })
    }

    /// Whether there are several conditions on one argument.
    fn repeats_an_argument(&self) -> bool {
        let mut seen = [false; 6];
        self.conditions
            .iter()
            .any(|arg| seen.get_mut(arg.index()).is_some_and(|seen| mem::replace(seen, true)))
    }
}

/// Says which names are no calls of any of these architectures. Profiles are written for several kernels and machines and
/// have many of those, so only who wants details is told.
fn tell_unknown(architectures: &[Architecture], rules: &[Rule<'_>]) {
    if tracing::enabled!(tracing::Level::DEBUG)
        && let unknown = unknown(architectures, rules)
        && !unknown.is_empty()
    {
        tracing::debug!("linux.seccomp: no system calls here, and left out: {}", unknown.join(", "));
    }
}

fn unknown<'a>(architectures: &[Architecture], rules: &[Rule<'a>]) -> Vec<&'a str> {
    let is_unknown = |name: &&str| architectures.iter().all(|known| known.number(name).is_none());
    let names = rules.iter().flat_map(|rule| rule.names).map(String::as_str);
    let mut unknown: Vec<_> = names.filter(is_unknown).collect();
    unknown.sort_unstable();
    unknown.dedup();
    unknown
}

/// The whole filter. Calls of an architecture that is not listed do not exist.
fn write(to: &mut Backwards, architectures: &[Architecture], rules: &[Rule<'_>], default: u32) {
    match architectures {
        [] => to.ret(NO_SUCH_CALL),
        [first, others @ ..] => to.if_architecture(
            first.audit,
            |to| write_calls(to, *first, rules, default),
            |to| write(to, others, rules, default),
        ),
    }
}

/// A system call's number, and a rule that names it.
type Entry<'a> = (u32, &'a Rule<'a>);

/// What is done about a range of numbers: rules on arguments, then an answer.
struct Answer<'a> {
    conditional: &'a [Entry<'a>],
    otherwise: u32,
}

impl<'a> Answer<'a> {
    fn plain(action: u32) -> Self {
        Self { conditional: &[], otherwise: action }
    }

    /// What these rules, which are for one call, say. The first without conditions decides; later ones do not count.
    fn of_call(rules: &'a [Entry<'a>], default: u32) -> Self {
        match rules.iter().position(|(_, rule)| rule.conditions.is_empty()) {
            Some(at) => Self { conditional: &rules[..at], otherwise: rules[at].1.action },
            None => Self { conditional: rules, otherwise: default },
        }
    }

    fn write(&self, to: &mut Backwards) {
        to.ret(self.otherwise);
        for (_, rule) in self.conditional.iter().rev() {
            // Two conditions on one argument are alternatives, as runc and crun have it.
            if rule.repeats_an_argument() {
                rule.conditions.chunks(1).rev().for_each(|condition| to.rule(condition, rule.action));
            } else {
                to.rule(rule.conditions, rule.action);
            }
        }
    }
}

/// The search over one architecture's numbers.
fn write_calls(to: &mut Backwards, architecture: Architecture, rules: &[Rule<'_>], default: u32) {
    let named = rules.iter().flat_map(|rule| rule.names.iter().map(move |name| (name, rule)));
    // A name this architecture does not know cannot be called on it.
    let mut entries: Vec<Entry<'_>> =
        named.filter_map(|(name, rule)| Some((architecture.number(name)?, rule))).collect();
    // Rules for one call stay in the order they are listed.
    entries.sort_by_key(|(number, _)| *number);
    let mut segments = Segments(Vec::with_capacity(entries.len()));
    let mut next = 0;
    for rules in entries.chunk_by(|(one, _), (other, _)| one == other) {
        let number = rules[0].0;
        if number > next {
            segments.add(next, Answer::plain(default));
        }
        segments.add(number, Answer::of_call(rules, default));
        next = number + 1;
    }
    segments.add(next, Answer::plain(beyond_newest(!entries.is_empty(), default)));
    if architecture.foreign_bit != 0 {
        segments.add(architecture.foreign_bit, Answer::plain(NO_SUCH_CALL));
    }
    to.search(&segments.0, &|to, answer| answer.write(to));
    to.load_number();
}

/// Ranges of numbers with the same answer, by their first number.
struct Segments<'a>(Vec<(u32, Answer<'a>)>);

impl<'a> Segments<'a> {
    /// From `first` on, this is the answer; the last range is extended when it has the same.
    fn add(&mut self, first: u32, answer: Answer<'a>) {
        let same = self.0.last().is_some_and(|(_, last)| {
            last.conditional.is_empty() && answer.conditional.is_empty() && last.otherwise == answer.otherwise
        });
        if !same {
            self.0.push((first, answer));
        }
    }
}

/// Numbers above the newest call that the profile names: unknown to its author, so "no such call" unless the
/// default lets them through.
fn beyond_newest(names_any: bool, default: u32) -> u32 {
    let lets_through = [libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_LOG];
    if names_any && !lets_through.contains(&default) { NO_SUCH_CALL } else { default }
}

fn action(action: Action, errno: Option<u32>) -> Result<u32, SeccompError> {
    if let Some(errno) = errno.filter(|errno| *errno > 4095) {
        return Err(SeccompError::Errno { errno });
    }
    // Without a tracer, TRACE makes a call fail with ENOSYS; that is for who wrote the profile to know.
    Ok(action.as_u32(errno))
}

fn flags(flags: &[Flag], has_listener: bool) -> u64 {
    let bits = flags.iter().map(|flag| match flag {
        // All threads alike: there is one.
        Flag::SeccompFilterFlagTsync => 0,
        Flag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
        Flag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        // About waiting for an answer; the kernel refuses it where nobody is asked.
        Flag::SeccompFilterFlagWaitKillableRecv if has_listener => {
            libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
        }
        Flag::SeccompFilterFlagWaitKillableRecv => 0,
    });
    bits.fold(0, |all, bit| all | bit)
}

#[cfg(test)]
mod tests {
    use super::super::bpf::interpreter::run;
    use super::*;

    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | 1;

    fn compile_json(json: &str) -> Result<Filter, SeccompError> {
        compile(&serde_json::from_str(json).unwrap())
    }

    fn number(name: &str) -> u32 {
        NATIVE.number(name).unwrap()
    }

    fn ask(filter: &Filter, name: &str, args: [u64; 6]) -> u32 {
        run(&filter.program, NATIVE.audit, number(name), args)
    }

    #[test]
    fn every_number_gets_the_answer_of_its_rule() {
        let filter = compile_json(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                {"names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
                {"names": ["statx"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#,
        )
        .unwrap();
        assert_eq!(ask(&filter, "read", [0; 6]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(ask(&filter, "write", [0; 6]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(ask(&filter, "mount", [0; 6]), libc::SECCOMP_RET_ERRNO | 13);
        assert_eq!(ask(&filter, "statx", [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
        assert_eq!(ask(&filter, "umount2", [0; 6]), EPERM);
    }

    #[test]
    fn names_that_no_architecture_knows_are_named_once() {
        let json = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["read", "zzz", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["no_such_call", "cacheflush_of_another"], "action": "SCMP_ACT_ALLOW"}]}"#;
        let profile: LinuxSeccomp = serde_json::from_str(json).unwrap();
        let syscalls = profile.syscalls().iter().flatten().enumerate();
        let rules = syscalls.map(Rule::new).collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(unknown(&[NATIVE], &rules), ["cacheflush_of_another", "no_such_call", "zzz"]);
    }

    #[test]
    fn calls_newer_than_the_profile_do_not_exist() {
        let json = r#"{"defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{"names": ["statx"], "action": "SCMP_ACT_ALLOW"}]}"#;
        let filter = compile_json(json).unwrap();
        assert_eq!(ask(&filter, "clone3", [0; 6]), NO_SUCH_CALL);
        assert_eq!(run(&filter.program, NATIVE.audit, 9999, [0; 6]), NO_SUCH_CALL);
        let open = compile_json(&json.replace("SCMP_ACT_ERRNO", "SCMP_ACT_LOG")).unwrap();
        assert_eq!(ask(&open, "clone3", [0; 6]), libc::SECCOMP_RET_LOG);
    }

    #[test]
    fn calls_of_other_architectures_do_not_exist() {
        let json = r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#;
        let filter = compile_json(json).unwrap();
        assert_eq!(run(&filter.program, 0x1234, number("read"), [0; 6]), NO_SUCH_CALL);
        if NATIVE.foreign_bit != 0 {
            let x32_read = NATIVE.foreign_bit | number("read");
            assert_eq!(run(&filter.program, NATIVE.audit, x32_read, [0; 6]), NO_SUCH_CALL);
        }
    }

    #[test]
    fn rules_on_arguments_are_alternatives() {
        let filter = compile_json(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
                 "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]},
                {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
                 "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]}]}"#,
        )
        .unwrap();
        let answers = [0, 8, 9].map(|value| ask(&filter, "personality", [value, 0, 0, 0, 0, 0]));
        assert_eq!(answers, [libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_ALLOW, EPERM]);
    }

    #[test]
    fn conditions_on_one_argument_are_alternatives_and_on_several_all_must_hold() {
        let ask_with = |args: &str, given| {
            let json = format!(
                r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                    {{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{args}]}}]}}"#
            );
            ask(&compile_json(&json).unwrap(), "socket", given)
        };
        let is = |index: usize, value: u64| {
            format!(r#"{{"index": {index}, "value": {value}, "op": "SCMP_CMP_EQ"}}"#)
        };
        let both = [is(0, 1), is(1, 2)].join(",");
        assert_eq!(ask_with(&both, [1, 2, 0, 0, 0, 0]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(ask_with(&both, [1, 3, 0, 0, 0, 0]), EPERM);
        // More than a jump could skip, if they were one rule.
        let any = (0..200).map(|value| is(0, value)).collect::<Vec<_>>().join(",");
        assert_eq!(ask_with(&any, [199, 0, 0, 0, 0, 0]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(ask_with(&any, [200, 0, 0, 0, 0, 0]), EPERM);
    }

    #[test]
    fn every_action_has_the_kernels_number() {
        for (name, value) in [
            ("KILL", libc::SECCOMP_RET_KILL_THREAD),
            ("KILL_THREAD", libc::SECCOMP_RET_KILL_THREAD),
            ("KILL_PROCESS", libc::SECCOMP_RET_KILL_PROCESS),
            ("TRAP", libc::SECCOMP_RET_TRAP),
            ("ERRNO", EPERM),
            ("TRACE", libc::SECCOMP_RET_TRACE | 1),
            ("LOG", libc::SECCOMP_RET_LOG),
            ("ALLOW", libc::SECCOMP_RET_ALLOW),
            ("NOTIFY", libc::SECCOMP_RET_USER_NOTIF),
        ] {
            let json = format!(
                r#"{{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/agent",
                    "syscalls": [{{"names": ["mount"], "action": "SCMP_ACT_{name}"}}]}}"#
            );
            let filter = compile_json(&json).unwrap();
            assert_eq!(ask(&filter, "mount", [0; 6]), value, "{name}");
            assert_eq!(filter.listener.is_some(), name == "NOTIFY");
        }
    }

    #[test]
    fn flags_are_passed_on_as_far_as_they_mean_something() {
        let flags = r#""flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]"#;
        let filter = compile_json(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", {flags}}}"#)).unwrap();
        assert_eq!(filter.flags, 6);
        let asking = format!(
            r#"{{"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/a", "listenerMetadata": "m", {flags}}}"#
        );
        let filter = compile_json(&asking).unwrap();
        assert_eq!(filter.flags, 6 | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
        let listener = Listener { path: "/a".into(), metadata: "m".into() };
        assert_eq!(filter.listener, Some(listener));
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for json in [
            r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            r#"{"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "run/agent"}"#,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}"#,
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000}"#,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG",
                "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
        ] {
            assert!(compile_json(json).is_err(), "{json}");
        }
    }
}
