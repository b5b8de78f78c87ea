//! Plans, runs and analyses experiments by running the carve binary and its peers from outside.
//!
//! ```no_run
//! let mut options = bench::Options::new("target/release/carve".into(), "demo");
//! options.samples = 10;
//! options.save = Some("report.json".into()); // kept up to date after every sample, complete at the end
//! let report = bench::run(&options, &mut ())?; // `()` watches nothing; implement `Observer` to show progress
//! let page: String = bench::html::render(&report);
//! let table: String = bench::table::render(&report);
//! let json: String = report.to_json();
//! bench::save_bytes(page.as_bytes(), "report.html".as_ref())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Options`] say what to compare, [`run()`] does it by way of the binary's command line and JSON and tells an
//! [`Observer`] how it goes, and a [`Report`] holds every raw sample and what was derived from them. [`html`] and
//! [`table`] turn a report into text. Nothing here prints, and no crate of the engine is used: a report is evidence
//! about the binary a user has, not about the code it was built from.
//!
//! Inside, [`statistics`], [`plan`], [`memory`] and [`report`] are pure; `execute` is the one place that starts
//! processes, behind a trait, so that a whole run is tested without any.

mod calibrate;
mod clock;
pub mod environment;
#[cfg(test)]
mod example;
mod execute;
mod format;
mod guest_kernel;
pub mod html;
pub mod memory;
mod observe;
pub mod options;
pub mod plan;
pub mod report;
mod run;
pub mod size;
pub mod statistics;
mod subject;
pub mod table;

pub use calibrate::Calibration;
pub use observe::{Observer, Progress};
pub use options::{Options, OptionsError, Ready};
pub use report::Report;
pub use report::save::{SaveError, bytes as save_bytes};
pub use run::{Error, run};
pub use subject::{Runtime, Subject};
