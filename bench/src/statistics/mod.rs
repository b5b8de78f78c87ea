//! What the raw samples show: medians, intervals, a test and a verdict. Pure functions; all chance comes from a seed.
//!
//! [`quantile`] and [`outlier`] describe one series, [`bootstrap`] says how far its median may be off,
//! [`rank_test`] compares two series, [`holm`] corrects for making several comparisons, and [`verdict`] puts these
//! together into the three words a report uses.

pub mod bootstrap;
pub mod generator;
pub mod holm;
pub mod outlier;
pub mod quantile;
pub mod rank_test;
pub mod verdict;
