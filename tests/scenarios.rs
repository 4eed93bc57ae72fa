//! Stories: `tests/scenarios/*.txt`, each played by real cores in virtual time, compared with what it says will happen.
//!
//! `UPDATE=1 cargo test --features sim --test scenarios` writes down what really happened; `SCENARIO=o07` plays only files
//! whose name contains that. The format is described in `tests/scenarios/README.md`.

// A helper of a test may fail like a test.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/mod.rs"]
mod support;
#[path = "scenarios_support/mod.rs"]
mod table;

use std::path::{Path, PathBuf};
use table::story::{Outcome, play};

#[test]
fn every_story_goes_as_written() {
    let update = std::env::var_os("UPDATE").is_some();
    let chosen = std::env::var("SCENARIO").unwrap_or_default();
    let mut failed = Vec::new();
    let stories: Vec<_> = stories().into_iter().filter(|path| path.to_string_lossy().contains(&chosen)).collect();
    assert!(!stories.is_empty(), "no story is called {chosen}");
    for path in &stories {
        let name = path.file_name().unwrap().to_string_lossy();
        let name = format!("tests/scenarios/{name}");
        match play(&name, &std::fs::read_to_string(path).unwrap()) {
            Outcome::Same => {}
            Outcome::Different { rewritten, .. } if update => std::fs::write(path, rewritten).unwrap(),
            Outcome::Different { report, .. } if report.is_empty() => {
                failed.push(format!("{name}: blank lines are not where they belong\n"));
            }
            Outcome::Different { report, .. } => failed.push(report),
            Outcome::Wrong(error) => failed.push(error),
        }
    }
    let hint = "- as written, + as it happened; UPDATE=1 writes down what happened";
    assert!(failed.is_empty(), "\n{} stories go otherwise ({hint}):\n\n{}", failed.len(), failed.join("\n"));
}

fn stories() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut stories: Vec<_> = files.filter(|path| path.extension().is_some_and(|found| found == "txt")).collect();
    stories.sort();
    stories
}
