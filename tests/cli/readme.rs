//! README's examples, run as they stand against a real server: what they print has the shape that README shows.

use std::process::Command;

use crate::process::{Outcome, Server, outcome};

/// A block of shell commands, and the output that README shows under it, if it shows any.
struct Example {
    commands: String,
    output: Option<String>,
}

/// The examples under "Try it".
fn examples() -> Vec<Example> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("README is there");
    let start = text.find("\n## Try it").expect("the chapter is there");
    let chapter = text[start + 4..].split("\n## ").next().unwrap_or_default();
    let mut examples: Vec<Example> = Vec::new();
    for fence in chapter.split("\n```").skip(1).step_by(2) {
        let (language, body) = fence.split_once('\n').expect("a fence has lines");
        match (language, examples.last_mut()) {
            ("sh", _) => examples.push(Example { commands: body.into(), output: None }),
            (_, Some(example)) => example.output = Some(body.into()),
            (_, None) => panic!("output without commands: {body}"),
        }
    }
    examples
}

fn run(server: &Server, commands: &str) -> Outcome {
    let commands = commands
        .replace("target/release/synapse", env!("CARGO_BIN_EXE_synapse"))
        .replace("127.0.0.1:8002", server.address());
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", &commands]).env("SYNAPSE_URL", &server.url);
    bash.current_dir(env!("CARGO_MANIFEST_DIR"));
    outcome(bash, "")
}

/// The text with every run of digits as one, so that ids and times compare.
fn shape(text: &str) -> String {
    let mut out = String::new();
    for c in text.trim_end().chars() {
        let c = if c.is_ascii_digit() { '0' } else { c };
        if !(c == '0' && out.ends_with('0')) {
            out.push(c);
        }
    }
    out
}

#[test]
fn examples_print_what_readme_shows() {
    let server = Server::start();
    let examples = examples();
    assert!(examples.len() >= 5, "too few examples");
    let mut shown = 0;
    for example in examples.iter().filter(|e| !e.commands.starts_with("python3")) {
        let out = run(&server, &example.commands).ok();
        if let Some(output) = &example.output {
            shown += 1;
            // The last lines: commands whose output is not worth showing may stand before.
            let want = shape(output);
            let tail: Vec<&str> = out.trim_end().lines().rev().take(output.trim_end().lines().count()).collect();
            let got: Vec<&str> = tail.into_iter().rev().collect();
            assert_eq!(shape(&got.join("\n")), want, "{}", example.commands);
        }
    }
    assert!(shown >= 4, "too few examples show their output");
}
