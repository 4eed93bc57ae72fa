//! The rules (`docs/rules.md`), the table of their tests (`docs/conformance.md`), and the code that names them.
//!
//! A rule has a name of a letter and two digits: `o12`, `l24`, `s05`, `r03`, `p07`. In the rules it opens a paragraph
//! (`**o12 Title.** Text`); in the table it opens a line (``| o12 | `test_one` `test_two` | open: what it waits for |``).
//! Bugs of others (`docs/known-bugs.md`) are named in the same way: `b35`, `c02`, `d07`; two may share a paragraph.

use crate::source::Source;
use std::collections::{BTreeMap, BTreeSet};

const RULES: &str = "olsrp";
const BUGS: &str = "bcd";

/// One line of the conformance table.
#[derive(Debug, Default)]
struct Line {
    number: usize,
    tests: Vec<String>,
    /// What the rest of the row waits for; empty if nothing is open.
    open: Option<String>,
}

/// The rules or bugs that have a paragraph.
pub(crate) fn explained(document: &Source) -> BTreeSet<String> {
    let heads = document.text.lines().filter_map(|line| line.strip_prefix("**"));
    heads.flat_map(|head| head.split(", ").map_while(row_at)).map(str::to_owned).collect()
}

/// Everything that is wrong between the rules, the table and the tests.
pub(crate) fn conformance(rules: &Source, table: &Source, tests: &BTreeSet<String>) -> Vec<String> {
    let known = explained(rules);
    let (lines, mut findings) = parse(table);
    for row in known.iter().filter(|row| !lines.contains_key(*row)) {
        findings.push(format!("{}: {row} of {} has no line", table.path, rules.path));
    }
    for (row, line) in &lines {
        let at = format!("{}:{}", table.path, line.number);
        if !known.contains(row) {
            findings.push(format!("{at}: {row} has no paragraph in {}", rules.path));
        }
        findings.extend(gap(row, line, tests).map(|gap| format!("{at}: {row} {gap}")));
    }
    findings.append(&mut without_a_body(table, tests));
    findings
}

/// Tests that a table names and nobody wrote.
pub(crate) fn without_a_body(table: &Source, tests: &BTreeSet<String>) -> Vec<String> {
    let mut findings = Vec::new();
    for (row, line) in parse(table).0 {
        for test in line.tests.iter().filter(|test| !tests.contains(*test)) {
            findings
                .push(format!("{}:{}: {row} names the test `{test}`, which does not exist", table.path, line.number));
        }
    }
    findings
}

/// What a line leaves unsaid: a row has tests, or says what it waits for, and does not wait for what is there.
fn gap(row: &str, line: &Line, tests: &BTreeSet<String>) -> Option<String> {
    let waiting: Vec<&String> = tests.iter().filter(|test| borne(test).any(|borne| borne == row)).collect();
    match (&line.open, line.tests.is_empty()) {
        (Some(reason), _) if reason.is_empty() => Some("is open without a reason".to_owned()),
        (_, true) if !waiting.is_empty() => Some(format!("names no test, but these bear its name: {waiting:?}")),
        (None, true) => Some("has neither a test nor `open: reason`".to_owned()),
        _ => None,
    }
}

fn parse(table: &Source) -> (BTreeMap<String, Line>, Vec<String>) {
    let mut lines = BTreeMap::new();
    let mut findings = Vec::new();
    for (text, number) in table.text.lines().zip(1..) {
        let mut cells = text.split('|').map(str::trim).skip(1);
        let Some(row) = cells.next().and_then(row_at) else { continue };
        let tests = cells.next().map(quoted_names).unwrap_or_default();
        let open = cells.next().and_then(|cell| cell.strip_prefix("open:")).map(|reason| reason.trim().to_owned());
        if lines.insert(row.to_owned(), Line { number, tests, open }).is_some() {
            findings.push(format!("{}:{number}: {row} has two lines", table.path));
        }
    }
    (lines, findings)
}

/// Rules and bugs that the code names, in backticks or at the head of a test's name, but nobody explains.
pub(crate) fn unexplained(source: &Source, known: &BTreeSet<String>) -> Vec<String> {
    let quoted = source.text.lines().zip(1..).flat_map(|(line, number)| {
        line.split('`').skip(1).step_by(2).filter(|word| word.len() == 3).map(move |word| (number, word.to_owned()))
    });
    let functions = source.functions();
    let functions = functions.iter().flat_map(|name| borne(name).map(|row| (0, row.to_owned())));
    let rows = quoted.chain(functions).filter_map(|(number, name)| Some((number, row_at(&name)?.to_owned())));
    let lost = rows.filter(|(_, row)| !known.contains(row));
    lost.map(|(number, row)| {
        format!("{}:{number}: `{row}` is in neither docs/rules.md nor docs/known-bugs.md", source.path)
    })
    .collect()
}

/// Rules and bugs at the head of a story's name, or in its first line, that nobody explains.
pub(crate) fn unexplained_story(story: &Source, known: &BTreeSet<String>) -> Vec<String> {
    let title = story.text.lines().next().unwrap_or_default();
    let in_title = title.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() == 3).filter_map(row_at);
    let lost = borne(story.stem()).chain(in_title).filter(|row| !known.contains(*row));
    let says = |row| format!("{}: `{row}` is in neither docs/rules.md nor docs/known-bugs.md", story.path);
    lost.map(says).collect()
}

/// The rule's name at the head of a text, if one stands there.
fn row_at(text: &str) -> Option<&str> {
    let row = text.get(..3)?;
    let named = row.starts_with(|c| RULES.contains(c) || BUGS.contains(c))
        && row[1..].bytes().all(|byte| byte.is_ascii_digit());
    let ends = !text[3..].starts_with(|c: char| c.is_alphanumeric());
    (named && ends).then_some(row)
}

/// The names at the head of a test's name: rules, and numbers of bugs (`s05_b20_match_never_goes_back`).
fn borne(test: &str) -> impl Iterator<Item = &str> {
    test.split('_').take_while(|part| part.len() == 3 && row_at(part).is_some())
}

fn quoted_names(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_RULES: &str = "# Rules\n\n**o01 Start.** A node starts.\n\n**p16 Guard.** Suspend is seen.\n";

    fn findings(table: &str, tests: &[&str]) -> Vec<String> {
        let tests = tests.iter().map(|test| (*test).to_owned()).collect();
        conformance(&Source::planted("rules.md", TWO_RULES), &Source::planted("table.md", table), &tests)
    }

    #[track_caller]
    fn one(table: &str, tests: &[&str], says: &str) {
        let found = findings(table, tests);
        assert!(found.len() == 1 && found[0].contains(says), "{found:?}");
    }

    #[test]
    fn a_complete_table_is_fine() {
        let table = "| row | tests | open |\n| --- | --- | --- |\n| o01 | `o01_start` | |\n| p16 | | open: the lease |";
        assert!(findings(table, &["o01_start"]).is_empty());
        let half = "| o01 | `o01_start` | open: the other half |\n| p16 | | open: the lease |";
        assert!(findings(half, &["o01_start"]).is_empty());
    }

    #[test]
    fn each_lie_of_a_table_is_caught() {
        let tests = ["o01_start"];
        one("| o01 | `o01_start` | |", &tests, "p16 of rules.md has no line");
        one("| o01 | `o01_start` | |\n| p16 | `gone` | |", &tests, "`gone`, which does not exist");
        one("| o01 | `o01_start` | |\n| p16 | | |", &tests, "neither a test nor");
        one("| o01 | `o01_start` | |\n| p16 | | open: |", &tests, "without a reason");
        one("| o01 | | open: later |\n| p16 | | open: later |", &tests, "these bear its name");
        one("| o01 | | open: later |\n| p16 | | open: later |", &["b20_o01_start"], "these bear its name");
        one("| o01 | `o01_start` | |\n| p16 | | open: a |\n| l99 | | open: b |", &tests, "no paragraph");
        one("| o01 | `o01_start` | |\n| p16 | | open: a |\n| p16 | | open: a |", &tests, "two lines");
    }

    #[test]
    fn a_table_of_bugs_names_tests_that_exist_or_gives_reasons_in_words() {
        let table = Source::planted("known-bugs.md", "| b01 | `gone` |\n| b02 | never |\n| b03 | `b03_here` |");
        let found = without_a_body(&table, &["b03_here".to_owned()].into());
        assert!(found.len() == 1 && found[0].contains("`gone`, which"), "{found:?}");
    }

    #[test]
    fn a_rule_nobody_explains_is_caught() {
        let known = explained(&Source::planted("rules.md", TWO_RULES));
        let named = |text: &str| unexplained(&Source::planted("src/a.rs", text), &known).len();
        assert_eq!(named("// see `o01` and `p16`, not `u16` nor `a01`\nfn o01_works() {}"), 0);
        assert_eq!(named("fn o01_b35_works() {}"), 1);
        assert_eq!(explained(&Source::planted("known-bugs.md", "**c01, d03 Two.** Of `b01`.")).len(), 2);
        assert_eq!(named("// see `o02`"), 1);
        assert_eq!(named("fn l77_works() {}"), 1);
        assert_eq!(named("fn p50() {} fn reads() {}"), 1);
    }

    #[test]
    fn a_story_about_a_rule_that_nobody_explains_is_caught() {
        let known = explained(&Source::planted("rules.md", TWO_RULES));
        let lost = |path: &str, text: &str| unexplained_story(&Source::planted(path, text), &known).len();
        assert_eq!(lost("stories/o01_a_start.txt", "# o01 p16 A start.\n# o99 is elsewhere.\n"), 0);
        assert_eq!(lost("stories/o02_a_start.txt", "# A start.\n"), 1);
        assert_eq!(lost("stories/trap01_a_start.txt", "# trap 1, p10 A start.\n"), 1);
    }
}
