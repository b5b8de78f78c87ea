//! The host a report was made on. Two reports are comparable only when these agree; above all [`Kvm`].

mod read;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use read::{load, read};

/// The host. What could not be read is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// How this host runs virtual machines.
    pub kvm: Kvm,
    /// Named facts in the order they are shown.
    pub facts: Vec<Fact>,
    /// Load averages over 1, 5 and 15 minutes before the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_before: Option<String>,
    /// The same after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_after: Option<String>,
    /// What `carve doctor --format json` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doctor: Option<Value>,
}

/// One fact about the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is about.
    pub name: String,
    /// What was found.
    pub value: String,
}

/// How a host runs virtual machines. Figures from different kinds of host are never compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kvm {
    /// There is no KVM.
    #[default]
    None,
    /// KVM on VT-x or SVM.
    Hardware,
    /// KVM without either: a guest's kernel runs in software.
    NoHardware,
}

impl Kvm {
    /// One sentence that every page of a report carries.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::None => "This host has no KVM: virtual machines could not be measured.",
            Self::Hardware => "KVM with hardware assistance (VT-x or SVM).",
            Self::NoHardware => {
                "KVM WITHOUT hardware assistance: on this host a guest's kernel is interpreted, many times slower than \
                 hardware would run it; its programs run natively. VM figures here say nothing about a host with VT-x \
                 or SVM and must not be compared with one."
            }
        }
    }
}

impl Environment {
    /// The fact of this name.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.iter().find(|fact| fact.name == name).map(|fact| fact.value.as_str())
    }
}
