//! What is checked. A check runs in a process of its own, alone, and says what is wrong.

mod compat;
mod disk;
mod jit;
mod memory;
pub(crate) mod programs;
mod signals;
mod threads;
mod time;
mod trace;
mod vector;
mod vsock;

/// A check: `Err` says what is wrong.
pub(crate) type Check = fn() -> Outcome;

/// What a check finds.
pub(crate) type Outcome = Result<(), String>;

/// All of them, by name.
const CHECKS: &[(&str, Check)] = &[
    ("compat-call", compat::calls_the_kernel_from_32_bit_code),
    ("compat-loop", compat::loops_in_32_bit_code),
    ("compat-program", compat::runs_a_32_bit_program),
    ("disk-copy", disk::copies_one_to_the_other),
    ("jit-in-place", jit::runs_what_was_last_written),
    ("jit-two-mappings", jit::runs_what_was_written_elsewhere),
    ("memory-copy-on-write", memory::children_do_not_see_each_other),
    ("memory-discard", memory::discarded_pages_are_zero),
    ("memory-move", memory::moved_pages_are_gone_from_where_they_were),
    ("memory-pressure", memory::survives_forks_while_memory_is_short),
    ("memory-protect", memory::protection_holds_from_the_next_instruction),
    ("memory-shared", memory::shared_pages_are_shared),
    ("programs-again", programs::starts_many),
    ("signals-faults", signals::instructions_that_fault_say_how),
    ("signals-own-step", signals::a_program_can_step_through_itself),
    ("signals-stack", signals::a_full_stack_can_be_handled_on_another),
    ("signals-timer", signals::a_timer_interrupts_a_loop),
    ("signals-vector", signals::handlers_leave_vector_registers_alone),
    ("threads-futex", threads::wait_for_each_other),
    ("threads-local", threads::have_variables_of_their_own),
    ("time-busy", time::passes_as_on_the_host_while_busy),
    ("time-idle", time::passes_as_on_the_host_while_asleep),
    ("time-order", time::never_goes_back),
    ("time-shared", time::is_shared_by_two_busy_processes),
    ("time-sleep", time::sleeps_are_as_long_as_asked_for),
    ("trace-step", trace::steps_through_every_instruction),
    ("trace-system-call", trace::steps_over_a_system_call),
    ("vector-spinning", vector::survives_losing_the_cpu),
    ("vector-yielding", vector::survives_giving_the_cpu_away),
    ("vsock-restored", vsock::hears_of_a_restore),
    ("vsock-streams", vsock::carries_two_hundred_streams),
];

/// The check of this name.
pub(crate) fn find(name: &str) -> Option<Check> {
    CHECKS.iter().find(|(known, _)| *known == name).map(|(_, check)| *check)
}

/// Fails with `why` unless it is so.
fn expect(so: bool, why: impl FnOnce() -> String) -> Outcome {
    if so { Ok(()) } else { Err(why()) }
}

/// An error as what is wrong, with what was being done.
fn at<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}

/// The exit code of a process that found this: 0, or 1 after saying why.
fn code(outcome: Outcome) -> i32 {
    let Err(why) = outcome else { return 0 };
    println!("guest-checks: in a child: {why}");
    1
}

/// A sum over bytes that depends on their order (FNV-1a).
fn sum(bytes: &[u8]) -> u64 {
    sum_on(0xcbf2_9ce4_8422_2325, bytes)
}

/// The same, going on from the sum of what was before.
fn sum_on(before: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(before, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
