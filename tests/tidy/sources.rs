//! The source files as the rules see them, and the rules of a single file.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file of this package.
pub(crate) struct Source {
    /// Its path from the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// The text before the tests that stand in the file; nothing where the whole file is tests.
    pub(crate) fn code(&self) -> &str {
        if !self.path.starts_with("src/") || self.path.ends_with("/tests.rs") || self.path.ends_with("/golden.rs") {
            return "";
        }
        match self.text.find("#[cfg(test)]\nmod tests {") {
            Some(end) => &self.text[..end],
            None => &self.text,
        }
    }
}

/// The root of the package.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the package.
pub(crate) fn all() -> Vec<Source> {
    let mut sources = Vec::new();
    for folder in ["src", "tests", "benches", "proto", "fuzz/fuzz_targets"] {
        walk(&root().join(folder), &mut sources);
    }
    assert!(sources.len() > 50, "the walk finds too little: {}", sources.len());
    sources
}

fn walk(folder: &Path, sources: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("readable folder").path();
        if path.is_dir() {
            walk(&path, sources);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).expect("readable file");
            let path = path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
            sources.push(Source { path, text });
        }
    }
}

fn check(what: &str, faults: impl Iterator<Item = String>) {
    let faults: Vec<String> = faults.collect();
    assert!(faults.is_empty(), "{what}:\n  {}", faults.join("\n  "));
}

#[test]
fn every_file_says_what_it_is() {
    let silent = |s: &Source| !s.text.starts_with("//! ") && !s.text.starts_with("#![");
    check("files that do not open with `//! `", all().iter().filter(|s| silent(s)).map(|s| s.path.clone()));
}

#[test]
fn no_file_is_a_god_file() {
    let long = all().into_iter().filter_map(|s| {
        let lines = s.code().lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines of code, at most {LINES_MAX}", s.path))
    });
    check("files to be split", long);
}

#[test]
fn banned_words_are_absent() {
    let mut faults = Vec::new();
    for source in all() {
        for (number, line) in source.text.lines().enumerate() {
            for (word, why, excepted) in banned() {
                let exempt = excepted.iter().any(|path| source.path == *path) || source.path == "tests/tidy/sources.rs";
                if !exempt && line.contains(&word) {
                    faults.push(format!("{}:{}: {word}: {why}", source.path, number + 1));
                }
            }
        }
    }
    check("banned words", faults.into_iter());
}

/// Words, why they are banned, and the files that may have them.
fn banned() -> Vec<(String, &'static str, &'static [&'static str])> {
    vec![
        ("TODO".into(), "finish it or leave it out", &[]),
        ("FIXME".into(), "finish it or leave it out", &[]),
        ("unimplemented!(".into(), "no stubs", &[]),
        ("todo!(".into(), "no stubs", &[]),
        ("SystemTime::now".into(), "the clock is read in src/clock.rs only", &["src/clock.rs"]),
        ("unbounded_channel".into(), "every queue has a bound", &[]),
        ("channel::unbounded".into(), "every queue has a bound", &[]),
        ("mpsc::unbounded".into(), "every queue has a bound", &[]),
    ]
}

#[test]
fn matches_is_asserted() {
    let mut faults = Vec::new();
    for source in all() {
        for (at, _) in source.text.match_indices("matches!(") {
            if is_statement(&source.text, at) {
                let line = source.text[..at].lines().count();
                faults.push(format!("{}:{line}", source.path));
            }
        }
    }
    check("`matches!` whose outcome nobody looks at", faults.into_iter());
}

/// Whether the macro call at this place stands alone as a statement.
fn is_statement(text: &str, at: usize) -> bool {
    let line_start = text[..at].rfind('\n').map_or(0, |n| n + 1);
    if !text[line_start..at].trim().is_empty() {
        return false;
    }
    let mut depth = 0usize;
    for (n, c) in text[at..].char_indices() {
        match c {
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                if depth == 0 {
                    return text[at + n + 1..].starts_with(';');
                }
            }
            _ => {}
        }
    }
    false
}

#[test]
fn the_rules_can_fail() {
    assert!(is_statement("fn t() {\n    matches!(x, Some(_));\n}", 13));
    assert!(!is_statement("fn t() -> bool {\n    matches!(x, Some(_))\n}", 21));
    assert!(!is_statement("assert!(matches!(x, Some(_)));", 8));
}

/// Lines of code of one file, its tests apart.
const LINES_MAX: usize = 1_000;
