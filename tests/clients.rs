//! Clients that were written for Redis, at the Redis port, as they are: the stream tests of redis-py and of redis-rs from
//! their published packages, and those of Redis itself; services on redis.asyncio, ioredis, redis-rs and redis-cli, over restarts of the server;
//! redis-cli beside the commands of `synapse`.
//!
//! Needs `python3` with `venv`, `node`, `npm`, `cargo`, `redis-cli`, `tclsh`, `curl`, and the package indexes at the first
//! run; packages are kept below `target/tmp/clients`. What is missing is said and skipped; with `CI` set in the environment it fails instead.
//! Cases that fail on purpose stand in `docs/REDIS.md` with their reason; one of these that passes fails the run.

#[path = "clients/node.rs"]
mod node;
#[path = "clients/published.rs"]
mod published;
#[path = "clients/python.rs"]
mod python;
#[path = "clients/redis_rs.rs"]
mod redis_rs;
#[path = "clients/redis_suite.rs"]
mod redis_suite;
#[path = "clients/restarts.rs"]
mod restarts;
#[path = "clients/server.rs"]
mod server;
#[path = "clients/tools.rs"]
mod tools;

use std::process::Command;

use published::{Outcome, judge};
use server::Server;
use tools::{or_skipped, redis_cli, run};

#[test]
fn redis_py_finds_redis() {
    let Some(python) = python::prepared() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("data"));
    let mut outcome = Outcome::default();
    for version in python::PUBLISHED {
        for protocol in ["2", "3"] {
            outcome.add(python.published_tests(version, protocol, server.redis_port));
        }
    }
    judge("redis-py", &outcome, 300);
}

#[test]
fn redis_rs_finds_redis() {
    let Some(tests) = redis_rs::prepared() else { return };
    let mut outcome = Outcome::default();
    for protocol in ["RESP2", "RESP3"] {
        outcome.add(tests.run(protocol));
    }
    judge("redis-rs", &outcome, 90);
}

#[test]
fn the_tests_of_redis_find_redis() {
    let Some(suite) = redis_suite::prepared() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("data"));
    let mut outcome = Outcome::default();
    for unit in ["unit/type/stream", "unit/type/stream-cgroups"] {
        outcome.add(suite.run(unit, server.redis_port));
    }
    judge("redis", &outcome, 100);
}

#[test]
fn what_redis_cli_adds_and_synapse_publishes_each_other_shows() {
    let Some(_) = or_skipped(run(Command::new("redis-cli").arg("--version"))) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("data"));
    let synapse = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_synapse"));
        run(command.args(args).args(["--url", &server.url])).expect("the command succeeds")
    };
    let event = ["--type", "inference-complete", "--source", "cyrex", "--data", r#"{"latency_ms":42}"#];
    let id = synapse(&[&["publish", "inference-events"], &event[..]].concat());
    let shown =
        redis_cli(server.redis_port, &["XREVRANGE", "inference-events", "+", "-", "COUNT", "1"]).expect("shows");
    let lines: Vec<&str> = shown.lines().collect();
    let want = ["type", "inference-complete", "source", "cyrex", "datacontenttype", "application/json", "data"];
    assert_eq!(lines, [&[id.trim()], &want[..], &[r#"{"latency_ms":42}"#]].concat());

    let add = ["XADD", "training-events", "*", "event", "training-progress", "loss", "0.4"];
    let id = redis_cli(server.redis_port, &add).expect("adds");
    let line = synapse(&["tail", "training-events", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&line).expect("one line of JSON");
    let fields = serde_json::json!([["event", "training-progress"], ["loss", "0.4"]]);
    assert_eq!((shown["id"].as_str(), &shown["fields"]), (Some(id.trim()), &fields), "{shown}");
}
