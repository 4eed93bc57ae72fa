//! The words of a command, one after the other. An error says what was expected.

use std::str::FromStr;

use tenure::time::Duration;
use tenure::types::{EntryId, Index, NodeId, RoundId, Term};

pub(crate) struct Words<'a> {
    rest: Vec<&'a str>,
}

impl<'a> Words<'a> {
    pub(crate) fn of(line: &'a str) -> Self {
        Self { rest: line.split_whitespace().rev().collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn peek(&self) -> Option<&'a str> {
        self.rest.last().copied()
    }

    pub(crate) fn take(&mut self) -> Option<&'a str> {
        self.rest.pop()
    }

    pub(crate) fn next(&mut self, expected: &str) -> Result<&'a str, String> {
        self.take().ok_or_else(|| format!("expected {expected}"))
    }

    /// Takes this very word if it is next.
    pub(crate) fn accept(&mut self, word: &str) -> bool {
        let there = self.peek() == Some(word);
        if there {
            self.take();
        }
        there
    }

    pub(crate) fn expect(&mut self, word: &str) -> Result<(), String> {
        if self.accept(word) { Ok(()) } else { Err(format!("expected `{word}`")) }
    }

    /// Nothing may follow.
    pub(crate) fn end(&self) -> Result<(), String> {
        self.peek().map_or(Ok(()), |word| Err(format!("`{word}` is one word too many")))
    }

    pub(crate) fn all(&mut self) -> Vec<&'a str> {
        std::mem::take(&mut self.rest).into_iter().rev().collect()
    }

    pub(crate) fn number<T: FromStr>(&mut self, expected: &str) -> Result<T, String> {
        number(self.next(expected)?, expected)
    }

    pub(crate) fn node(&mut self) -> Result<NodeId, String> {
        node(self.next("a node")?)
    }

    pub(crate) fn term(&mut self) -> Result<Term, String> {
        prefixed(self.next("a term")?, "t", "a term like t2").map(Term)
    }

    pub(crate) fn round(&mut self) -> Result<RoundId, String> {
        prefixed(self.next("a round")?, "r", "a round like r1").map(RoundId)
    }

    pub(crate) fn entry(&mut self) -> Result<EntryId, String> {
        entry(self.next("an entry")?)
    }

    pub(crate) fn index(&mut self) -> Result<Index, String> {
        self.number("an index").map(Index)
    }

    pub(crate) fn duration(&mut self, e: Duration) -> Result<Duration, String> {
        duration(self.next("a time")?, e)
    }
}

pub(crate) fn node(word: &str) -> Result<NodeId, String> {
    prefixed(word, "n", "a node like n1").map(NodeId)
}

/// `7@3`.
pub(crate) fn entry(word: &str) -> Result<EntryId, String> {
    let expected = "an entry like 7@3";
    let (index, term) = word.split_once('@').ok_or_else(|| wrong(word, expected))?;
    Ok(EntryId::new(number::<u64>(index, expected)?, number::<u64>(term, expected)?))
}

/// `300ms`, `2s`, or `1.5E`, a multiple of the smallest election timeout.
pub(crate) fn duration(word: &str, e: Duration) -> Result<Duration, String> {
    let expected = "a time like 300ms, 2s or 1.5E";
    let unit = word.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(|| wrong(word, expected))?;
    let (count, unit) = word.split_at(unit);
    let count: f64 = number(count, expected)?;
    let nanos = match unit {
        "ms" => 1e6,
        "s" => 1e9,
        "E" => e.as_nanos() as f64,
        _ => return Err(wrong(word, expected)),
    };
    Ok(Duration::from_nanos((count * nanos).round() as u64))
}

pub(crate) fn number<T: FromStr>(word: &str, expected: &str) -> Result<T, String> {
    word.parse().map_err(|_| wrong(word, expected))
}

fn prefixed(word: &str, prefix: &str, expected: &str) -> Result<u64, String> {
    number(word.strip_prefix(prefix).ok_or_else(|| wrong(word, expected))?, expected)
}

fn wrong(word: &str, expected: &str) -> String {
    format!("`{word}` is not {expected}")
}

#[test]
fn words_are_read_and_wrong_ones_named() {
    let e = Duration::from_secs(1);
    assert_eq!(duration("1.5E", e), Ok(Duration::from_millis(1500)));
    assert_eq!(duration("300ms", e), Ok(Duration::from_millis(300)));
    assert_eq!(entry("7@3"), Ok(EntryId::new(7, 3)));
    assert_eq!(node("x1"), Err("`x1` is not a node like n1".to_owned()));
    assert!(duration("3", e).is_err() && duration("3h", e).is_err() && entry("7").is_err());
}
