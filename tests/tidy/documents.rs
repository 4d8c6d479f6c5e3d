//! Documents against the code that they tell of: paths, labels, settings, commands.

use std::fs;
use std::process::Command;

use synapse::server::settings::{Layer, Settings, TABLE};

use crate::sources::{all, root};

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn check(what: &str, faults: Vec<String>) {
    assert!(faults.is_empty(), "{what}:\n  {}", faults.join("\n  "));
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn paths_in_the_architecture_exist() {
    let text = read("docs/ARCHITECTURE.md");
    let paths: Vec<&str> = quoted(&text).filter(|q| q.starts_with("src/") || q.starts_with("tests/")).collect();
    assert!(paths.len() > 10, "the page names too few paths: {paths:?}");
    let missing = paths.iter().filter(|p| !root().join(p).exists()).map(ToString::to_string).collect();
    check("paths of ARCHITECTURE.md that are not there", missing);
}

#[test]
fn labels_in_the_architecture_are_in_the_code() {
    let text = read("docs/ARCHITECTURE.md");
    let labels: Vec<&str> = text.split("**").skip(1).step_by(2).filter(|l| is_label(l)).collect();
    assert!(!labels.is_empty(), "the page has no labels");
    let sources = all();
    let in_code = |label: &str| {
        sources.iter().any(|s| {
            s.path.starts_with("src/") && s.text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == label)
        })
    };
    let missing = labels.iter().filter(|l| !in_code(l)).map(ToString::to_string).collect();
    check("invariants of ARCHITECTURE.md that no source names", missing);
}

fn is_label(text: &str) -> bool {
    let digits = text.trim_start_matches(|c: char| c.is_ascii_uppercase());
    !digits.is_empty() && digits.len() < text.len() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// The cells of the rows of `CONFIG.md`, by key.
fn setting_rows() -> Vec<Vec<String>> {
    read("docs/CONFIG.md")
        .lines()
        .filter(|l| l.starts_with("| `"))
        .map(|l| l.trim_matches('|').split(" | ").map(|c| c.trim().to_owned()).collect())
        .collect()
}

#[test]
fn every_setting_is_documented() {
    let rows = setting_rows();
    let documented: Vec<String> = rows.iter().map(|r| r[0].trim_matches('`').to_owned()).collect();
    let known: Vec<String> = TABLE.iter().map(|s| s.name.to_owned()).collect();
    assert_eq!(documented, known, "the rows of CONFIG.md are the settings, in their order");
    for (row, setting) in rows.iter().zip(TABLE) {
        assert_eq!(row[3], format!("`{}`", setting.env), "{}", setting.name);
        assert_eq!(row[4], setting.doc.trim(), "{}", setting.name);
    }
}

#[test]
fn documented_defaults_are_the_defaults() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let text: String =
        setting_rows().iter().map(|r| format!("{} = {}\n", r[0].trim_matches('`'), r[2].trim_matches('`'))).collect();
    fs::write(file.path(), text).expect("written");
    let documented = Settings::load(Some(file.path()), Layer::default()).expect("the documented defaults are valid");
    assert_eq!(format!("{documented:?}"), format!("{:?}", Settings::default()));
}

/// The fenced blocks of a language, each with what stands in the next block where that is output.
pub(crate) fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("```") {
        let body = &rest[start + 3..];
        let Some(line_end) = body.find('\n') else { break };
        let Some(end) = body.find("\n```") else { break };
        if &body[..line_end] == language {
            found.push(&body[line_end + 1..=end]);
        }
        rest = &body[end + 4..];
    }
    found
}

#[test]
fn shell_blocks_are_shell() {
    for path in ["README.md", "docs/CONFIG.md", "docs/OPERATIONS.md", "docs/HTTP.md"] {
        for block in blocks(&read(path), "sh") {
            let parsed = Command::new("bash").args(["-n", "-c", block]).output().expect("bash runs");
            let told = String::from_utf8_lossy(&parsed.stderr);
            assert!(parsed.status.success() && told.is_empty(), "{path}: {told}\n{block}");
        }
    }
}

#[test]
fn commands_of_the_readme_are_known() {
    let text = read("README.md");
    let found = blocks(&text, "sh");
    assert!(found.contains(&"cargo run --release\n") && found.contains(&"cargo test\n"), "the two commands are there");
    for block in found {
        let first = block.split_whitespace().next().unwrap_or_default();
        let known = ["cargo", "curl", "python3", "target/release/synapse"];
        assert!(known.contains(&first), "{first} is no command that README explains");
    }
}
