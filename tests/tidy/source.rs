//! A file of the project, and Rust source as tokens: just enough of a lexer to tell code from comments and strings.

use std::fs;
use std::path::{Path, PathBuf};

/// One file: its path relative to the project's root, and its text.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// One token of Rust code. Comments, strings and lifetimes are left out, `::` is one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// A path as written in the code: `use std::{fs, io::Read}` is two of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
    /// How many inline `mod name { .. }` stand around it.
    pub(crate) inline_modules: usize,
}

impl Source {
    #[cfg(test)]
    pub(crate) fn planted(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Reads one file, or panics with its name.
    pub(crate) fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| missing(path, &error));
        Self { path: path.to_owned(), text }
    }

    /// Every file under `directory` whose name ends in `.extension`, in the order of their names.
    pub(crate) fn under(directory: &str, extension: &str) -> Vec<Self> {
        let mut paths = Vec::new();
        collect(&root().join(directory), &mut paths);
        paths.sort();
        let wanted = paths.iter().filter(|path| path.extension().is_some_and(|found| found == extension));
        wanted.filter_map(|path| path.strip_prefix(root()).ok()?.to_str().map(Self::read)).collect()
    }

    /// The file's name without directories and extension.
    pub(crate) fn stem(&self) -> &str {
        Path::new(&self.path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
    }

    pub(crate) fn tokens(&self) -> Vec<Token> {
        Lexer { rest: &self.text, line: 1, tokens: Vec::new() }.run()
    }

    /// The names of all functions defined here.
    pub(crate) fn functions(&self) -> Vec<String> {
        let tokens = self.tokens();
        let defined = tokens.windows(2).filter(|pair| pair[0].text == "fn");
        defined.map(|pair| pair[1].text.clone()).filter(|name| is_word(name)).collect()
    }

    /// Every path named in the code.
    pub(crate) fn named(&self) -> Vec<Named> {
        let tokens = self.tokens();
        let mut named = Vec::new();
        let mut modules: Vec<usize> = Vec::new();
        let mut depth = 0;
        let mut at = 0;
        while at < tokens.len() {
            match tokens[at].text.as_str() {
                "{" => {
                    if at >= 2 && tokens[at - 2].text == "mod" {
                        modules.push(depth);
                    }
                    depth += 1;
                }
                "}" => {
                    depth = depth.saturating_sub(1);
                    modules.retain(|opened| *opened < depth);
                }
                word if is_word(word) => {
                    at = tree(&tokens, at, &[], modules.len(), &mut named);
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        named
    }
}

/// Reads the path or use tree that starts at `at`, and returns the place behind it.
fn tree(tokens: &[Token], at: usize, prefix: &[String], inline_modules: usize, named: &mut Vec<Named>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let line = tokens[at].line;
    let mut segments = prefix.to_vec();
    segments.push(text(at).to_owned());
    let mut next = at + 1;
    while text(next) == "::" {
        match text(next + 1) {
            "{" => {
                next += 2;
                while !matches!(text(next), "}" | "") {
                    next = match text(next) {
                        "as" => next + 2, // the new name is not part of the path
                        word if is_word(word) || word == "*" => tree(tokens, next, &segments, inline_modules, named),
                        _ => next + 1,
                    };
                }
                return next + 1;
            }
            word if is_word(word) || word == "*" => segments.push(word.to_owned()),
            _ => break,
        }
        next += 2;
    }
    named.push(Named { line, segments, inline_modules });
    next
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn run(mut self) -> Vec<Token> {
        while let Some(first) = self.rest.chars().next() {
            let taken = self.next_token(first);
            self.line += self.rest[..taken].matches('\n').count();
            self.rest = &self.rest[taken..];
        }
        self.tokens
    }

    /// Looks at what starts here, keeps it if it is code, and says how many bytes it has.
    fn next_token(&mut self, first: char) -> usize {
        let rest = self.rest;
        if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = string(rest) {
            length
        } else if first == '\'' {
            quoted(rest)
        } else if first.is_alphanumeric() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            self.keep(&rest[..length])
        } else if rest.starts_with("::") {
            self.keep("::")
        } else {
            let length = first.len_utf8();
            if !first.is_whitespace() { self.keep(&rest[..length]) } else { length }
        }
    }

    fn keep(&mut self, text: &str) -> usize {
        self.tokens.push(Token { line: self.line, text: text.to_owned() });
        text.len()
    }
}

/// The length of a block comment; they nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let step = match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (1, 2),
            [b'*', b'/', ..] => (-1, 2),
            _ => (0, 1),
        };
        depth = depth.saturating_add_signed(step.0);
        at += step.1;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The length of a string literal of any kind (`".."`, `b".."`, `r#".."#`), if one starts here.
fn string(rest: &str) -> Option<usize> {
    let prefix = rest.find(|c: char| !matches!(c, 'b' | 'c' | 'r')).filter(|length| *length <= 2)?;
    let raw = rest[..prefix].contains('r');
    let hashes = if raw { rest[prefix..].find(|c| c != '#')? } else { 0 };
    let body = prefix + hashes;
    if !rest[body..].starts_with('"') {
        return None;
    }
    let inside = &rest[body + 1..];
    let closing = format!("\"{}", "#".repeat(hashes));
    let length = if raw { inside.find(&closing) } else { unescaped_quote(inside) };
    Some(length.map_or(rest.len(), |length| body + 1 + length + closing.len()))
}

fn unescaped_quote(inside: &str) -> Option<usize> {
    let mut escaped = false;
    inside.char_indices().find_map(|(at, c)| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes.then_some(at)
    })
}

/// The length of a character literal, or of a lifetime's tick and name.
fn quoted(rest: &str) -> usize {
    let mut inside = rest.char_indices().skip(1);
    match (inside.next(), inside.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let behind = at + escaped.len_utf8();
            rest[behind..].find('\'').map_or(rest.len(), |closing| behind + closing + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => rest[1..].find(|c: char| !c.is_alphanumeric() && c != '_').map_or(rest.len(), |length| length + 1),
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { collect(&path, paths) } else { paths.push(path) }
    }
}

#[expect(clippy::panic, reason = "a test that cannot read its subject has failed")]
fn missing(path: &str, error: &std::io::Error) -> String {
    panic!("{path} cannot be read: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        Source::planted("x.rs", text).tokens().into_iter().map(|token| token.text).collect()
    }

    fn paths(text: &str) -> Vec<String> {
        Source::planted("x.rs", text).named().into_iter().map(|named| named.segments.join("::")).collect()
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        assert_eq!(words("a // b\nc /* d /* e */ f */ g"), ["a", "c", "g"]);
        assert_eq!(words(r##"a "b \" c" d r#"e " f"# g b"h" i"##), ["a", "d", "g", "i"]);
        assert_eq!(words("'a' b '\\'' c '\"' d 'e f 'static"), ["b", "c", "d", "f"]);
        assert_eq!(words("br_ed rust"), ["br_ed", "rust"]);
    }

    #[test]
    fn use_trees_are_spread_out() {
        let spread = paths("use std::{fs, io::{self, Read as R}, sync::Arc};");
        assert_eq!(spread, ["use", "std::fs", "std::io::self", "std::io::Read", "std::sync::Arc"]);
        assert_eq!(paths("crate::log::Entry::<u8>::new"), ["crate::log::Entry", "u8", "new"]);
    }

    #[test]
    fn tokens_know_their_line_and_paths_their_inline_module() {
        let source = Source::planted("x.rs", "mod a {\n  /* \n */ super::b;\n}\nc::d;");
        let super_b = source.named().into_iter().find(|named| named.segments[0] == "super");
        assert_eq!(super_b.map(|named| (named.line, named.inline_modules)), Some((3, 1)));
        let outside = source.named().into_iter().find(|named| named.segments[0] == "c");
        assert_eq!(outside.map(|named| (named.line, named.inline_modules)), Some((5, 0)));
    }

    #[test]
    fn functions_are_found_by_name() {
        assert_eq!(
            Source::planted("x.rs", "fn o01_a() {} // fn no()\n async fn b<T>() {}").functions(),
            ["o01_a", "b"]
        );
    }
}
