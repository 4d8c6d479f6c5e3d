//! What the published tests of a client came to, and what of that `docs/REDIS.md` knows.

use std::collections::BTreeSet;

/// Cases that were run, by name, however many variants each has.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Variants that passed.
    pub(crate) passed: usize,
    pub(crate) failed: BTreeSet<String>,
    /// What the runs said.
    pub(crate) output: String,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.output += &other.output;
    }
}

/// Fails unless the cases that failed are those that the document lists for this client, and enough passed.
pub(crate) fn judge(client: &str, outcome: &Outcome, passed_min: usize) {
    let known = documented(client);
    let unknown: Vec<_> = outcome.failed.difference(&known).collect();
    assert!(unknown.is_empty(), "{client}: {unknown:?} failed:\n{}", outcome.output);
    let stale: Vec<_> = known.difference(&outcome.failed).collect();
    assert!(stale.is_empty(), "{client}: {stale:?} of docs/REDIS.md passed, and should not be listed there");
    let passed = outcome.passed;
    assert!(passed >= passed_min, "{client}: {passed} passed, at least {passed_min} should:\n{}", outcome.output);
    eprintln!("{client}: {passed} passed, {} failed as documented", outcome.failed.len());
}

/// The cases of the table of the document that fail.
fn documented(client: &str) -> BTreeSet<String> {
    rows(client).into_iter().filter(|(_, why)| !is_left_out(why)).map(|(case, _)| case).collect()
}

/// The cases of the table that are not run.
pub(crate) fn left_out(client: &str) -> Vec<String> {
    rows(client).into_iter().filter(|(_, why)| is_left_out(why)).map(|(case, _)| case).collect()
}

fn is_left_out(why: &str) -> bool {
    why.starts_with("not run: ")
}

/// The rows of the table, which begin with `client: case`, with the reason.
fn rows(client: &str) -> Vec<(String, String)> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/REDIS.md")).expect("is there");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let cases = rows.filter_map(|(case, why)| Some((case.strip_prefix(client)?.strip_prefix(": ")?, why)));
    cases.map(|(case, why)| (case.to_owned(), why.to_owned())).collect()
}
