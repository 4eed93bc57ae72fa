//! Who may name whom (`docs/architecture.md`, "Layers").

use crate::source::{Named, Source};

const BASE: &[&str] = &["types", "time", "config"];

/// For each module what it may name beside itself. `*` stands for every module but `sim`.
fn allowed(module: &str) -> Option<Vec<&'static str>> {
    let list: (&[&str], &[&str]) = match module {
        "types" | "time" | "sync" => (&[], &[]),
        "config" => (&[], &["types", "time"]),
        "quorum" => (BASE, &[]),
        "log" => (BASE, &["quorum"]),
        "message" => (BASE, &["quorum", "log"]),
        "core" => (BASE, &["quorum", "log", "message"]),
        "wire" => (BASE, &["quorum", "log", "message"]),
        "wal" => (BASE, &["quorum", "log", "message", "sync"]),
        "snapshot" => (BASE, &["state_machine", "wire", "wal", "sync"]),
        "transport" => (BASE, &["quorum", "log", "message", "wire", "wal", "snapshot", "sync"]),
        "state_machine" | "storage" => (&[], &["types"]),
        "runtime" | "session" | "metrics" => (&["*"], &[]),
        "sim" => (&["*", "sim"], &[]),
        _ => return None,
    };
    Some([list.0, list.1].concat())
}

/// Modules that name another one they must not.
pub(crate) fn layering(source: &Source) -> Vec<String> {
    let Some((module, depth)) = place(&source.path) else { return Vec::new() };
    let Some(allowed) = allowed(module) else {
        return vec![format!("{}: module `{module}` has no layer; give it one in tests/tidy/layers.rs", source.path)];
    };
    let named = source.named();
    let targets = named.iter().filter_map(|named| Some((named, top_module(named, depth)?)));
    let wrong = targets.filter(|(_, target)| *target != module && !permits(&allowed, target));
    wrong
        .map(|(named, target)| {
            let path = named.segments.join("::");
            format!("{}:{}: `{path}`: `{module}` must not name `{target}`", source.path, named.line)
        })
        .collect()
}

fn permits(allowed: &[&str], target: &str) -> bool {
    let anything = allowed.contains(&"*") && target != "sim" && self::allowed(target).is_some();
    anything || allowed.contains(&target)
}

/// The top module of a file, and how deep the file's own module lies. `None` for the crate's root.
fn place(path: &str) -> Option<(&str, usize)> {
    let inside = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let parts: Vec<&str> = inside.split('/').filter(|part| *part != "mod").collect();
    (inside != "lib").then(|| (parts[0], parts.len()))
}

/// The module of the crate's root that a path leads to, if it leads out of its own.
///
/// A re-export of the root counts as a module of its name: it has no layer, so it is reported.
fn top_module(named: &Named, file_depth: usize) -> Option<&str> {
    let ups = named.segments.iter().take_while(|segment| *segment == "super").count();
    let from_root = match named.segments.first()?.as_str() {
        "crate" => 1,
        "super" if ups == file_depth + named.inline_modules => ups,
        _ => return None,
    };
    named.segments.get(from_root).map(String::as_str)
}

/// Where alone the file system is named: tests put another implementation of the trait there in its place.
const FILES: &str = "src/wal/fs.rs";

/// What goes past the trait to the disk.
pub(crate) fn file_access(source: &Source) -> Vec<String> {
    if source.path == FILES {
        return Vec::new();
    }
    let named = source.named();
    let past = named.iter().filter(|named| begins(&named.segments.join("::"), "std::fs"));
    past.map(|named| {
        format!("{}:{}: `{}`: only {FILES} names files", source.path, named.line, named.segments.join("::"))
    })
    .collect()
}

const PURE: &[&str] = &["src/types", "src/time", "src/config", "src/message", "src/quorum", "src/log", "src/core"];

/// Path prefixes that bring in the outside world, and why the pure layers do without.
const OUTSIDE: &[(&str, &str)] = &[
    ("std::io", "input and output"),
    ("std::fs", "files"),
    ("std::net", "the network"),
    ("std::thread", "threads"),
    ("std::process", "processes"),
    ("std::env", "the environment"),
    ("std::sync", "locks and shared memory (only Arc is free of them)"),
    ("std::time::Instant", "a clock; time is an argument"),
    ("std::time::*", "a clock; time is an argument"),
    ("rand::rng", "randomness from outside; the core owns one seeded generator"),
    ("rand::random", "randomness from outside; the core owns one seeded generator"),
    ("rand::rngs::StdRng", "a generator whose stream is not stable"),
    ("rustix", "system calls"),
    ("parking_lot", "locks"),
    ("crossbeam", "channels"),
    ("crossbeam_channel", "channels"),
];

/// Words that mean the same wherever they come from.
const OUTSIDE_WORDS: &[(&str, &str)] = &[
    ("SystemTime", "a clock; time is an argument"),
    ("HashMap", "an order that changes from run to run; take a BTreeMap"),
    ("HashSet", "an order that changes from run to run; take a BTreeSet"),
    ("RandomState", "randomness from outside"),
    ("ThreadRng", "randomness from outside"),
    ("SysRng", "randomness from outside"),
    ("OsRng", "randomness from outside"),
    ("thread_rng", "randomness from outside"),
    ("thread_local", "threads"),
];

/// What the core and the layers below it name of the outside world. Same seed and same inputs must give the same
/// outputs, so there must be nothing else that could make a difference.
pub(crate) fn purity(source: &Source) -> Vec<String> {
    if !PURE.iter().any(|layer| source.path.starts_with(layer)) {
        return Vec::new();
    }
    let named = source.named();
    let wrong = named.iter().filter_map(|named| Some((named, impurity(&named.segments)?)));
    wrong
        .map(|(named, why)| format!("{}:{}: `{}` brings in {why}", source.path, named.line, named.segments.join("::")))
        .collect()
}

fn impurity(segments: &[String]) -> Option<&'static str> {
    let path = segments.join("::");
    if path == "std::sync::Arc" || path.starts_with("std::sync::Arc::") {
        return None;
    }
    let by_path = OUTSIDE.iter().find(|(prefix, _)| begins(&path, prefix));
    let by_word = || OUTSIDE_WORDS.iter().find(|(word, _)| segments.iter().any(|segment| segment == word));
    by_path.or_else(by_word).map(|(_, why)| *why)
}

fn begins(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layering_of(path: &str, text: &str) -> usize {
        layering(&Source::planted(path, text)).len()
    }

    fn purity_of(text: &str) -> usize {
        purity(&Source::planted("src/core/planted.rs", text)).len()
    }

    #[test]
    fn naming_a_layer_above_is_caught_however_it_is_written() {
        for planted in [
            "use crate::wal::Wal;",
            "use crate::{log::Entry, wal};",
            "fn f() { crate::wal::open() }",
            "use super::super::wal::Wal;",
            "mod tests { use super::super::super::wal::Wal; }",
            "use crate::Node;",
            "use crate::*;",
        ] {
            assert_eq!(layering_of("src/core/planted.rs", planted), 1, "{planted}");
        }
        assert_eq!(layering_of("src/core/mod.rs", "use super::wal;"), 1);
        assert_eq!(layering_of("src/wire/codec.rs", "use crate::core::Core;"), 1);
        assert_eq!(layering_of("src/types.rs", "use crate::time::Instant;"), 1);
        assert_eq!(layering_of("src/runtime/node.rs", "use crate::sim::World;"), 1);
        assert_eq!(layering_of("src/transport/tcp.rs", "use crate::runtime::Node;"), 1);
        assert_eq!(layering_of("src/novelty/mod.rs", ""), 1, "a new module must be given a layer");
    }

    #[test]
    fn naming_a_layer_below_is_fine_and_so_are_comments() {
        let fine = "//! See [`crate::wal`].\nuse crate::{log::Entry, types::Term};\nuse super::effects::*;\n\
                    pub(crate) const S: &str = \"crate::wal\";\nmod tests { use super::*; use super::super::round; }";
        assert_eq!(layering_of("src/core/planted.rs", fine), 0);
        assert_eq!(layering_of("src/runtime/node.rs", "use crate::{core::Core, wal::Wal, sync::Mutex};"), 0);
    }

    #[test]
    fn the_outside_world_is_caught_in_the_core() {
        for planted in [
            "use std::io::Read;",
            "use std::{fs, fmt};",
            "let s: std::net::TcpStream;",
            "std::thread::sleep(d)",
            "use std::sync::Mutex;",
            "use std::sync::{Arc, atomic::AtomicU64};",
            "use std::time::Instant;",
            "use std::time::SystemTime;",
            "use std::collections::HashMap;",
            "use std::collections::{BTreeMap, HashSet};",
            "use parking_lot::Mutex;",
            "use crossbeam_channel as channel;",
            "let x = rand::random::<u8>();",
            "let mut r = rand::rng();",
            "use rand::rngs::SysRng;",
        ] {
            assert_eq!(purity_of(planted), 1, "{planted}");
        }
    }

    #[test]
    fn a_file_that_is_opened_past_the_trait_is_caught() {
        let access = |path: &str| file_access(&Source::planted(path, "use std::{fs::File, io}; // std::fs")).len();
        assert_eq!((access("src/runtime/node.rs"), access("src/wal/mod.rs"), access("src/wal/fs.rs")), (1, 1, 0));
    }

    #[test]
    fn what_the_core_needs_is_allowed() {
        let fine = "use std::sync::Arc;\nuse std::{collections::BTreeMap, fmt};\npub use std::time::Duration;\n\
                    use rand::rngs::Xoshiro256PlusPlus; // no std::thread, no HashMap\nuse crate::time::Instant;";
        assert_eq!(purity_of(fine), 0);
        assert!(purity(&Source::planted("src/runtime/node.rs", "use std::thread;")).is_empty());
    }
}
