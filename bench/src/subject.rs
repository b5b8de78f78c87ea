//! The things that are compared: a runtime, and the name under which its samples are reported.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::options::OptionsError;

/// A way to run the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// `carve run`.
    Container,
    /// `carve run --vm`.
    Vm,
    /// `crun run`, on the same root file system.
    Crun,
}

impl Runtime {
    /// Whether it is one of the two models of carve, not a peer.
    #[must_use]
    pub fn is_ours(self) -> bool {
        self != Self::Crun
    }
}

impl std::fmt::Display for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Container => "container",
            Self::Vm => "vm",
            Self::Crun => "crun",
        })
    }
}

impl FromStr for Runtime {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        match text {
            "container" => Ok(Self::Container),
            "vm" => Ok(Self::Vm),
            "crun" => Ok(Self::Crun),
            _ => Err(OptionsError::Runtime { given: text.to_owned() }),
        }
    }
}

/// One column of the comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its name in files, unique in a report.
    pub id: String,
    /// Its name for people.
    pub label: String,
    /// What runs it.
    pub runtime: Runtime,
    /// Whether it is the second half of the A/A control, not a subject of its own.
    pub control: bool,
}

impl Subject {
    /// The subject of a runtime.
    #[must_use]
    pub fn of(runtime: Runtime) -> Self {
        let label = match runtime {
            Runtime::Container => "container",
            Runtime::Vm => "VM",
            Runtime::Crun => "crun",
        };
        Self { id: runtime.to_string(), label: label.to_owned(), runtime, control: false }
    }

    /// The same thing once more, as the control: `A′` to this one's `A`.
    #[must_use]
    pub fn twin(&self) -> Self {
        Self {
            id: format!("{}-again", self.id),
            label: format!("{} (A′)", self.label),
            runtime: self.runtime,
            control: true,
        }
    }
}
