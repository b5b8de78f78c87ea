//! Compares the interpreter with the host's CPU: the same code with the same registers, flags and memory in ring 3.
//!
//! [`forms`] is what is tested. [`generate`] makes a [`case::Case`] of a form with [`operands`], [`targets`] and
//! [`prepare`]; [`native`] and [`interpreted`] run it in a guest of [`layout`]; [`outcome`] says how they differ, but for what
//! the manual leaves [`undefined`]. [`named`] are the cases that once did. `cargo xtask difftest` runs as many cases as
//! one likes, the ordinary tests a few thousand.

mod case;
mod forms;
mod generate;
mod instructions;
mod interpreted;
mod layout;
mod named;
mod native;
mod operands;
mod outcome;
mod prepare;
mod random;
mod refused;
mod targets;
mod undefined;
mod vectors;

use std::collections::BTreeMap;
use std::time::Instant;

use case::Case;
use forms::Form;
use generate::Generator;
use interpreted::Interpreted;
use native::Native;
use outcome::{End, differences};

/// One of so many cases starts with all translations forgotten, and compares accessed and dirty bits.
const COLD: u64 = 499;
/// Divergences after which it is not worth going on.
const ENOUGH: usize = 100;

/// How the sides differ.
struct Divergence {
    lines: Vec<String>,
    /// The interpreter does not know the instruction.
    is_unknown: bool,
}

/// Both sides.
struct Pair {
    native: Native,
    interpreted: Interpreted,
}

impl Pair {
    /// `None`, with the reason printed, where there is no KVM.
    fn new() -> Option<Self> {
        match Native::new() {
            Ok(native) => Some(Self { interpreted: Interpreted::new(native.extended_state()), native }),
            Err(reason) => {
                eprintln!("skipped: {reason}");
                None
            }
        }
    }

    /// Runs a case on both sides; how they differ.
    fn compare(&mut self, case: &Case, cold: bool, by_blocks: bool) -> Result<End, Divergence> {
        if cold {
            self.native.reset_pages();
            self.interpreted.reset_pages();
        }
        let mut native = self.native.run(case);
        let mut interpreted = self.interpreted.run(case, by_blocks);
        if !cold {
            native.pages.clear();
            interpreted.pages.clear();
        }
        let faulting = case.instruction_at(native.rip);
        let undefined = case.undefined | faulting.map_or(0, |faulting| undefined::flags_at_fault(&faulting));
        let either = faulting.is_some_and(|faulting| undefined::fault(&faulting));
        let either = either && native.faults() && interpreted.faults();
        if either {
            // Nor is it defined whether the other one has been accessed before.
            interpreted.pages.clone_from(&native.pages);
        }
        let is_large = faulting.is_some_and(|faulting| faulting.memory_size().size() >= 16);
        if either || native.is_peculiar(&interpreted, is_large) {
            (interpreted.end, interpreted.arrival) = (native.end, native.arrival);
        }
        let lines = differences(&native, &interpreted, undefined);
        if lines.is_empty() {
            return Ok(native.end);
        }
        Err(Divergence { lines, is_unknown: interpreted.end == End::Unknown })
    }
}

/// What has gone wrong in a run.
#[derive(Default)]
struct Failures {
    /// Forms that the interpreter does not know.
    unknown: BTreeMap<String, String>,
    /// Other divergences by form: how many, and the first one.
    diverging: BTreeMap<String, (usize, String)>,
}

impl Failures {
    fn add(&mut self, form: Form, case: &Case, divergence: &Divergence, title: &str) {
        let name = form.to_string();
        if divergence.is_unknown {
            self.unknown.entry(name).or_insert_with(|| case.disassembly());
            return;
        }
        let first = || (0, format!("{title}\n{case}\n{}", divergence.lines.join("\n")));
        self.diverging.entry(name).or_insert_with(first).0 += 1;
    }

    fn count(&self) -> usize {
        self.unknown.len() + self.diverging.len()
    }

    /// # Panics
    /// There are any.
    fn check(&self) {
        let texts: Vec<_> = self
            .diverging
            .iter()
            .take(ENOUGH)
            .map(|(form, (count, first))| format!("{form} diverges {count} times, first with {first}"))
            .collect();
        assert!(
            self.count() == 0,
            "{} forms diverge\n\n{}\n\n{} forms are not known to the interpreter: {:#?}",
            self.diverging.len(),
            texts.join("\n\n"),
            self.unknown.len(),
            self.unknown
        );
    }
}

/// Runs `cases` generated ones.
///
/// # Panics
/// They do not end the same on both sides.
fn run(cases: u64, mut generator: Generator, progress: bool) {
    let Some(mut pair) = Pair::new() else { return };
    let mut failures = Failures::default();
    let mut reached = 0u64;
    let started = Instant::now();
    for number in 0..cases {
        let (form, case) = generator.next();
        match pair.compare(&case, number.is_multiple_of(COLD), case.start.is_multiple_of(2)) {
            Ok(end) => reached += u64::from(end == End::Reached),
            Err(divergence) => failures.add(form, &case, &divergence, &format!("case {number}:")),
        }
        if progress && (number + 1) % 100_000 == 0 {
            let (done, seconds) = (number + 1, started.elapsed().as_secs_f64());
            eprintln!("{done} cases in {seconds:.1} s, {} forms diverge", failures.count());
        }
    }
    let forms = generator.forms();
    eprintln!("{cases} cases of {forms} forms: {reached} without an exception");
    failures.check();
}

#[test]
fn generated_cases_end_as_on_the_hosts_cpu() {
    // `cargo xtask difftest` says how many, and which.
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse().unwrap());
    let only = std::env::var("CARVE_DIFFTEST_ONLY").unwrap_or_default();
    let generator = Generator::new(number("CARVE_DIFFTEST_SEED").unwrap_or(1), &only);
    let asked_for = number("CARVE_DIFFTEST_CASES");
    run(asked_for.unwrap_or(5_000), generator, asked_for.is_some());
}

#[test]
fn what_programs_may_not_do_is_refused_as_on_the_hosts_cpu() {
    let Some(mut pair) = Pair::new() else { return };
    let mut generator = Generator::new(1, "Nop");
    let mut failures = Vec::new();
    for (code, name) in refused::CODE {
        for _ in 0..4 {
            let case = Case { code: code.to_vec(), undefined: 0, ..generator.next().1 };
            match pair.compare(&case, false, case.start.is_multiple_of(2)) {
                Ok(End::Exception(_)) => {}
                Ok(_) => failures.push(format!("{name} is allowed")),
                // It is left to the CPU.
                Err(divergence) if divergence.is_unknown => {}
                Err(divergence) => {
                    failures.push(format!("{name}:\n{case}\n{}", divergence.lines.join("\n")));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn named_cases_end_as_on_the_hosts_cpu() {
    let Some(mut pair) = Pair::new() else { return };
    for (name, case) in named::cases() {
        for by_blocks in [false, true] {
            if let Err(divergence) = pair.compare(&case, true, by_blocks) {
                panic!("{name}:\n{case}\n{}", divergence.lines.join("\n"));
            }
        }
    }
}
