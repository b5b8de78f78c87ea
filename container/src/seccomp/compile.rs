//! From an OCI profile to a BPF program.
//!
//! For each architecture, the system calls are laid out as ranges of numbers with the same answer, and the program
//! searches them. What the profile does not name gets its default action; but numbers above the newest call it
//! names get ENOSYS, so that a program that tries a newer call falls back to an older one instead of failing.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompFilterFlag as Flag, LinuxSyscall,
};

use super::Filter;
use super::architecture::{Architecture, NATIVE, secondary};
use super::bpf::{self, Piece};

/// Longest program the kernel takes (BPF_MAXINSNS).
const MAX_INSTRUCTIONS: usize = 4096;
/// `SECCOMP_RET_ERRNO | ENOSYS`.
const NO_SUCH_CALL: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();

/// A profile that cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// An action this runtime cannot carry out.
    #[error("{action} is not supported: nobody listens for it")]
    Action {
        /// The action's name.
        action: String,
    },
    /// A flag this runtime cannot pass on.
    #[error("the flag {flag} is not supported")]
    Flag {
        /// The flag's name.
        flag: String,
    },
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
    let rules: Vec<Rule<'_>> =
        profile.syscalls().iter().flatten().enumerate().map(Rule::new).collect::<Result<_, _>>()?;
    let architectures = profile.architectures().as_deref().unwrap_or_default();
    // The native architecture comes first, and calls of any that is not listed do not exist.
    let mut program = bpf::ret(NO_SUCH_CALL);
    for architecture in secondary(architectures).into_iter().chain([NATIVE]) {
        let calls = bpf::with_number(calls(architecture, &rules, default));
        program = bpf::if_architecture(architecture.audit, calls, program);
    }
    if program.len() > MAX_INSTRUCTIONS {
        return Err(SeccompError::TooLong { instructions: program.len() });
    }
    Ok(Filter { program, flags: flags(profile.flags().as_deref().unwrap_or_default())? })
}

struct Rule<'a> {
    syscall: &'a LinuxSyscall,
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
        Ok(Self { syscall, action: action(syscall.action(), syscall.errno_ret())? })
    }
}

/// What is done about one system call: rules on its arguments, then an answer.
struct Answer<'a> {
    conditional: Vec<(&'a LinuxSyscall, u32)>,
    otherwise: u32,
    /// A rule without conditions was seen; later ones do not count.
    decided: bool,
}

impl Answer<'_> {
    fn plain(action: u32) -> Self {
        Self { conditional: Vec::new(), otherwise: action, decided: true }
    }

    fn piece(&self) -> Piece {
        let conditional = self.conditional.iter();
        let mut piece: Piece = conditional
            .flat_map(|(syscall, action)| bpf::rule(syscall.args().as_deref().unwrap_or_default(), *action))
            .collect();
        piece.extend(bpf::ret(self.otherwise));
        piece
    }
}

/// The search over one architecture's numbers.
fn calls(architecture: Architecture, rules: &[Rule<'_>], default: u32) -> Piece {
    let numbers = architecture.numbers();
    let mut answers: BTreeMap<u32, Answer<'_>> = BTreeMap::new();
    for rule in rules {
        // A name this architecture does not know cannot be called on it.
        for number in rule.syscall.names().iter().filter_map(|name| numbers.get(name.as_str())) {
            let answer = answers.entry(*number).or_insert_with(|| Answer {
                conditional: Vec::new(),
                otherwise: default,
                decided: false,
            });
            if answer.decided {
                continue;
            }
            if rule.syscall.args().as_ref().is_none_or(Vec::is_empty) {
                answer.otherwise = rule.action;
                answer.decided = true;
            } else {
                answer.conditional.push((rule.syscall, rule.action));
            }
        }
    }
    let newest = answers.keys().next_back().copied();
    let mut segments = Segments(Vec::new());
    let mut next = 0;
    for (number, answer) in answers {
        if number > next {
            segments.add(next, Answer::plain(default));
        }
        segments.add(number, answer);
        next = number + 1;
    }
    segments.add(next, Answer::plain(beyond_newest(newest.is_some(), default)));
    if architecture.foreign_bit != 0 {
        segments.add(architecture.foreign_bit, Answer::plain(NO_SUCH_CALL));
    }
    let pieces: Vec<_> = segments.0.iter().map(|(first, answer)| (*first, answer.piece())).collect();
    bpf::search(&pieces)
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
    match action {
        // TRACE needs a tracer and NOTIFY a listener, or each such call fails with ENOSYS.
        Action::ScmpActNotify | Action::ScmpActTrace => {
            Err(SeccompError::Action { action: action.to_string() })
        }
        other => Ok(other.as_u32(errno)),
    }
}

fn flags(flags: &[Flag]) -> Result<u64, SeccompError> {
    flags.iter().try_fold(0, |bits, flag| {
        let bit = match flag {
            // All threads alike: there is one.
            Flag::SeccompFilterFlagTsync => 0,
            Flag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
            Flag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            Flag::SeccompFilterFlagWaitKillableRecv => {
                return Err(SeccompError::Flag { flag: flag.to_string() });
            }
        };
        Ok(bits | bit)
    })
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
        NATIVE.numbers()[name]
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
    fn what_cannot_be_done_is_refused() {
        for json in [
            r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_TRACE"}]}"#,
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000}"#,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG",
                "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
        ] {
            assert!(compile_json(json).is_err(), "{json}");
        }
    }
}
