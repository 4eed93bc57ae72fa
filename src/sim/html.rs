//! A run as a page to look at.

use super::plan::Plan;
use super::run::Report;

/// The story of `report` as one page that needs nothing else.
#[must_use]
pub fn html(_plan: &Plan, report: &Report) -> String {
    report.trace.lines().join("\n")
}
