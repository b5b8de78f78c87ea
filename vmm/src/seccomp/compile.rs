//! From a list to a program for the kernel.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::allowed::{Allowed, Only};

/// A program that lets through what `list` says. Anything else raises SIGSYS in the thread.
///
/// # Errors
/// The list does not make a program that the kernel takes; none of ours.
pub(super) fn compile(list: &[Allowed]) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for allowed in list {
        let conditions = rules_of(allowed.only)?;
        rules.entry(allowed.call).or_default().extend(conditions);
    }
    SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
}

/// Any one of these must hold; none means that anything goes.
fn rules_of(only: Only) -> Result<Vec<SeccompRule>, BackendError> {
    let is = |argument, operator, value| {
        SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?])
    };
    match only {
        Only::Any => Ok(Vec::new()),
        Only::OneOf(argument, values) => {
            values.iter().map(|value| is(argument, SeccompCmpOp::Eq, *value)).collect()
        }
        Only::NotExecutable => Ok(vec![is(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)?]),
        Only::Ourselves => {
            let process = u64::from(std::process::id());
            Ok(vec![is(0, SeccompCmpOp::Eq, process)?])
        }
    }
}
