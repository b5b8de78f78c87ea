//! One line of a list: a system call that is allowed, with which arguments, and what for.

/// A system call that is allowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowed {
    /// Its number.
    pub(super) call: i64,
    /// What its arguments must be.
    pub(super) only: Only,
    /// What the thread needs it for.
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "read by the test that holds docs/jail-system-calls.md against the lists"
        )
    )]
    pub(super) why: &'static str,
}

/// What a call's arguments must be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Only {
    /// Anything.
    Any,
    /// The argument of this number is one of these. Pointers and descriptors cannot be told apart by a filter.
    OneOf(u8, &'static [u64]),
    /// Memory that is mapped or changed is not executable: the third argument lacks PROT_EXEC.
    NotExecutable,
    /// The first argument is this process's id.
    Ourselves,
}

/// `call` with any arguments.
pub(super) const fn any(call: i64, why: &'static str) -> Allowed {
    Allowed { call, only: Only::Any, why }
}

/// `call` if `only` holds.
pub(super) const fn only(call: i64, only: Only, why: &'static str) -> Allowed {
    Allowed { call, only, why }
}
