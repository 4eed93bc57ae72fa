//! Holds the project's structure true by reading its sources and documents.
//!
//! What is checked: the layering of the modules, the purity of the core and the one door to the file system (`layers`),
//! the documents against each other and against the tests (`rows`), the length of files and what must not stand in them
//! (`texts`). Each checker is a function from text to a list of findings, so that the tests at the end of each file can
//! show that it catches a planted violation. A finding names the file, the line and what to do.

#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/rows.rs"]
mod rows;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/texts.rs"]
mod texts;

use source::Source;
use std::collections::BTreeSet;

#[test]
fn modules_name_only_what_stands_below_them() {
    tidy(Source::under("src", "rs").iter().flat_map(layers::layering).collect());
}

#[test]
fn the_core_names_no_io_no_thread_no_clock_and_no_randomness_of_its_own() {
    tidy(Source::under("src", "rs").iter().flat_map(layers::purity).collect());
}

#[test]
fn only_one_file_names_the_file_system() {
    tidy(Source::under("src", "rs").iter().flat_map(layers::file_access).collect());
}

#[test]
fn every_rule_is_in_the_conformance_table_with_tests_that_exist() {
    let rules = Source::read("docs/rules.md");
    let table = Source::read("docs/conformance.md");
    tidy(rows::conformance(&rules, &table, &test_names()));
}

#[test]
fn every_test_that_the_table_of_known_bugs_names_exists() {
    tidy(rows::without_a_body(&Source::read("docs/known-bugs.md"), &test_names()));
}

#[test]
fn every_rule_and_bug_named_in_the_code_is_explained() {
    let mut known = rows::explained(&Source::read("docs/rules.md"));
    known.append(&mut rows::explained(&Source::read("docs/known-bugs.md")));
    let mut findings: Vec<_> = code().iter().flat_map(|source| rows::unexplained(source, &known)).collect();
    findings.extend(stories().iter().flat_map(|story| rows::unexplained_story(story, &known)));
    tidy(findings);
}

#[test]
fn files_stay_short() {
    tidy(code().iter().flat_map(texts::too_long).collect());
}

#[test]
fn no_path_of_a_machine_is_written_down() {
    let mut sources = code();
    sources.extend(Source::under("docs", "md"));
    sources.extend(["README.md", "CHANGELOG.md", ".ci/run"].map(Source::read));
    tidy(sources.iter().flat_map(texts::machine_paths).collect());
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents = Source::under("docs", "md");
    documents.extend(["README.md", "CHANGELOG.md"].map(Source::read));
    tidy(documents.iter().flat_map(texts::dead_links).collect());
}

#[test]
fn lines_that_operators_are_told_of_are_logged() {
    let operations = Source::read("docs/operations.md");
    assert!(operations.text.contains(texts::LOGGED));
    tidy(texts::never_logged(&operations, &Source::under("src", "rs")));
}

/// All Rust code, also that which is compiled for tests only.
fn code() -> Vec<Source> {
    let directories = ["src", "tests", "examples", "benches", "fuzz/src", "fuzz/fuzz_targets"];
    directories.iter().flat_map(|directory| Source::under(directory, "rs")).collect()
}

/// The transcripts that `tests/scenarios.rs` plays.
fn stories() -> Vec<Source> {
    Source::under("tests/scenarios", "txt")
}

/// The names of all functions in the places where tests live, and of the stories, each of which is a test.
fn test_names() -> BTreeSet<String> {
    let sources = ["src", "tests", "examples"].iter().flat_map(|directory| Source::under(directory, "rs"));
    let functions = sources.flat_map(|source| source.functions());
    functions.chain(stories().iter().map(|story| story.stem().to_owned())).collect()
}

#[track_caller]
fn tidy(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{} findings:\n  {}\n", findings.len(), findings.join("\n  "));
}
