//! How a command ended, and what a test expects of that.

use std::process::{Command, Output};

/// A command that a test runs to its end.
pub trait Ended {
    /// Whatever the end is.
    ///
    /// # Panics
    /// When it does not start.
    fn run(&mut self) -> Output;

    /// It must succeed; what it printed.
    ///
    /// # Panics
    /// When it fails, or prints something else than text.
    fn ok(&mut self) -> String;

    /// It must fail with this code; what it complained of.
    ///
    /// # Panics
    /// When it ends otherwise.
    fn fails(&mut self, code: i32) -> String;
}

impl Ended for Command {
    fn run(&mut self) -> Output {
        self.output().unwrap_or_else(|error| panic!("{self:?} does not start: {error}"))
    }

    fn ok(&mut self) -> String {
        let output = self.run();
        assert!(output.status.success(), "{self:?}: {output:?}");
        String::from_utf8(output.stdout).expect("it prints UTF-8")
    }

    fn fails(&mut self, code: i32) -> String {
        let output = self.run();
        assert_eq!(output.status.code(), Some(code), "{self:?}: {output:?}");
        String::from_utf8(output.stderr).expect("it complains in UTF-8")
    }
}
