//! The layer table of `docs/ARCHITECTURE.md`: who may use whom.

use crate::sources::{Source, all};

/// Modules that a module may use besides itself. What is missing here may use everything.
const MAY_USE: &[(&str, &[&str])] = &[
    ("error", LAYER_0),
    ("faults", LAYER_0),
    ("limits", LAYER_0),
    ("clock", LAYER_0),
    ("types", LAYER_0),
    ("access", LAYER_0),
    ("metrics", LAYER_0),
    ("format", LAYER_0),
    ("storage", &["error", "limits", "clock", "types", "access", "metrics", "faults", "format"]),
    ("stream", &["error", "limits", "clock", "types", "access", "metrics", "format"]),
    ("group", &["error", "limits", "clock", "types", "access", "metrics", "format"]),
    (
        "engine",
        &["error", "limits", "clock", "types", "access", "metrics", "faults", "format", "storage", "stream", "group"],
    ),
    ("grpc", FRONT_END),
    ("http", FRONT_END),
    ("resp", FRONT_END),
    ("proto", &[]),
    ("client", &["error", "types", "limits", "proto"]),
];
const LAYER_0: &[&str] = &["error", "limits", "clock", "types", "access", "metrics"];
const FRONT_END: &[&str] = &["error", "limits", "clock", "types", "access", "metrics", "format", "engine", "proto"];

/// Modules that know nothing of tokio.
const WITHOUT_TOKIO: &[&str] =
    &["error", "limits", "clock", "types", "access", "metrics", "format", "storage", "stream", "group", "engine"];

/// The module of the crate that the file belongs to.
fn module(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("src/")?;
    let end = rest.find(['/', '.'])?;
    Some(&rest[..end])
}

/// Modules of the crate that the code names, with their lines.
fn uses(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let is_ours = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        let line_start = code[..at].rfind('\n').map_or(0, |n| n + 1);
        let in_comment = code[line_start..].trim_start().starts_with("//");
        if !is_ours || in_comment {
            continue;
        }
        let line = code[..at].lines().count();
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push((line, identifier(rest)));
            continue;
        };
        let group = &group[..group.find(';').unwrap_or(group.len())];
        found.extend(top_level(group).into_iter().map(|part| (line, identifier(part))));
    }
    found
}

/// The parts of a use group: `a::{b, c}, d}` has `a::{b, c}` and `d}`.
fn top_level(group: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0i32, 0);
    for (n, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(group[start..n].trim());
                start = n + 1;
            }
            _ => {}
        }
    }
    parts.push(group[start..].trim());
    parts
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn faults(source: &Source) -> Vec<String> {
    let Some(module) = module(&source.path) else { return Vec::new() };
    let Some((_, may_use)) = MAY_USE.iter().find(|(name, _)| *name == module) else { return Vec::new() };
    uses(source.code())
        .into_iter()
        .filter(|(_, used)| !used.is_empty() && used != module && !may_use.contains(&used.as_str()))
        .map(|(line, used)| format!("{}:{line}: {module} may not use {used}", source.path))
        .collect()
}

#[test]
fn layers_hold() {
    let found: Vec<String> = all().iter().flat_map(faults).collect();
    assert!(found.is_empty(), "layers:\n  {}", found.join("\n  "));
}

#[test]
fn tokio_stays_above() {
    let found: Vec<String> = all()
        .iter()
        .filter(|s| module(&s.path).is_some_and(|m| WITHOUT_TOKIO.contains(&m)))
        .filter(|s| s.code().contains("tokio::"))
        .map(|s| s.path.clone())
        .collect();
    assert!(found.is_empty(), "tokio below the front ends: {found:?}");
}

#[test]
fn the_rule_can_fail() {
    let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    for (path, text) in [
        ("src/format/x.rs", "use crate::engine::Engine;"),
        ("src/grpc/x.rs", "use crate::{\n    engine::{Engine, Publish},\n    http::problem,\n};"),
        ("src/stream/mod.rs", "fn f() { crate::group::go() }"),
        ("src/client/x.rs", "use crate::engine::Engine;"),
    ] {
        assert_eq!(faults(&source(path, text)).len(), 1, "{path}: {text}");
    }
    assert!(faults(&source("src/grpc/x.rs", "use crate::engine::Engine;\n// as crate::http does")).is_empty());
}
