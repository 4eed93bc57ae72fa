//! What holds for every file whatever it says: how long it may be, what must not stand in it, where it may point.

use crate::source::Source;
use std::path::Path;

/// A file of one idea fits in this many lines; most have half of it.
const MOST_LINES: usize = 800;

pub(crate) fn too_long(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    let finding = || format!("{}: {lines} lines; split it by idea, {MOST_LINES} are the most", source.path);
    (lines > MOST_LINES).then(finding).into_iter().collect()
}

/// Beginnings of absolute paths that exist on some machines only. Split, so that this file does not contain them.
const MACHINE_PATHS: &[&str] = &[
    concat!("/", "home/"),
    concat!("/", "root/"),
    concat!("/", "tmp"),
    concat!("/", "work/"),
    concat!("/", "Users/"),
    concat!("/", "mnt/"),
    concat!("C:", "\\"),
];

pub(crate) fn machine_paths(source: &Source) -> Vec<String> {
    let numbered = source.text.lines().zip(1..);
    let found = numbered.flat_map(|(line, number)| {
        MACHINE_PATHS.iter().filter(move |path| line.contains(**path)).map(move |path| (number, path))
    });
    found.map(|(number, path)| format!("{}:{number}: `{path}` is a path of one machine", source.path)).collect()
}

/// Relative links whose file does not exist.
pub(crate) fn dead_links(source: &Source) -> Vec<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join(&source.path);
    let exists = |target: &str| here.parent().is_some_and(|directory| directory.join(target).exists());
    let dead = links(&source.text).into_iter().filter(|(_, target)| !exists(target));
    dead.map(|(line, target)| format!("{}:{line}: the link to `{target}` leads nowhere", source.path)).collect()
}

/// Lines that a document says the program logs, behind this head of a table, and that no source has.
pub(crate) const LOGGED: &str = "| line in the log |";

pub(crate) fn never_logged(document: &Source, code: &[Source]) -> Vec<String> {
    let table = document.text.lines().zip(1..).skip_while(|(line, _)| !line.starts_with(LOGGED)).skip(2);
    let rows = table.take_while(|(line, _)| line.starts_with('|'));
    let quoted = rows.flat_map(|(row, number)| {
        let cell = row.split('|').nth(1).unwrap_or_default();
        cell.split('`').skip(1).step_by(2).map(move |text| (number, text))
    });
    let logged = |text: &str| code.iter().any(|source| source.text.contains(&format!("\"{text}")));
    let never = quoted.filter(|(_, text)| !logged(text));
    never.map(|(number, text)| format!("{}:{number}: nothing logs `{text}`", document.path)).collect()
}

/// Targets of `[text](target)` inside the project, without their `#fragment`, each with its line.
fn links(text: &str) -> Vec<(usize, &str)> {
    let numbered = text.lines().zip(1..);
    let targets = numbered.flat_map(|(line, number)| {
        line.split("](").skip(1).filter_map(move |rest| Some((number, rest.split_once(')')?.0)))
    });
    let inside = targets.filter(|(_, target)| !target.contains("://") && !target.starts_with('#'));
    inside.map(|(number, target)| (number, target.split_once('#').map_or(target, |split| split.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_801_lines_is_too_long() {
        assert!(too_long(&Source::planted("src/a.rs", &"x\n".repeat(800))).is_empty());
        assert_eq!(too_long(&Source::planted("src/a.rs", &"x\n".repeat(801))).len(), 1);
    }

    #[test]
    fn a_path_of_a_machine_is_caught() {
        let planted = format!("fine\nsee {}me/notes", MACHINE_PATHS[0]);
        let found = machine_paths(&Source::planted("docs/a.md", &planted));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("docs/a.md:2:"), "{found:?}");
        assert!(machine_paths(&Source::planted("docs/a.md", "a node's home/directory")).is_empty());
    }

    #[test]
    fn a_line_that_nothing_logs_is_caught() {
        let table =
            format!("`not here`\n{LOGGED} x |\n| --- | --- |\n| `it broke`, `it is gone` | `mend` |\n\n| `nor here` |");
        let code = [Source::planted("src/a.rs", "warn!(logger, \"it broke; mend it\"); // it is gone")];
        let found = never_logged(&Source::planted("docs/a.md", &table), &code);
        assert_eq!(found, ["docs/a.md:4: nothing logs `it is gone`"]);
    }

    #[test]
    fn a_dead_link_is_caught() {
        let planted = "[a](../src/lib.rs) [b](https://example.org/x) [c](#part)\n[d](nowhere.md#part)";
        let found = dead_links(&Source::planted("docs/planted.md", planted));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("nowhere.md"));
    }
}
