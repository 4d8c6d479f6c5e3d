//! A stock Python gRPC client, with stubs generated from `proto/` as any user would make them: 100,000 events to two
//! groups, restarts, reflection, errors.
//!
//! Needs `python3` with `venv`, and a package index for `pip` at its first run. Without Python the tests say so and
//! are skipped; with `CI` set in the environment they fail instead.

#[path = "python/environment.rs"]
mod environment;
#[path = "process/server.rs"]
mod server;

use environment::Python;
use server::Server;

/// Makes and finds the Python of the tests, or says why it is skipped and ends the test.
macro_rules! python {
    () => {
        match Python::prepared() {
            Some(python) => python,
            None => return,
        }
    };
}

#[test]
fn groups_get_every_event_once_and_after_restarts_what_is_left() {
    let python = python!();
    let folder = tempfile::tempdir().expect("a folder");
    let (data, notes) = (folder.path().join("data"), folder.path().join("notes"));
    std::fs::create_dir(&notes).expect("a folder");
    let notes = notes.to_str().expect("text");

    let server = Server::start(&data);
    python.run("publish.py", &[&server.url]);
    python.run("consume.py", &[&server.url, notes, "first"]);
    server.terminate();

    let server = Server::start(&data);
    python.run("consume.py", &[&server.url, notes, "second"]);
    server.kill();

    let server = Server::start(&data);
    python.run("consume.py", &[&server.url, notes, "third"]);
    server.terminate();
}

#[test]
fn a_client_without_stubs_finds_its_way_by_reflection() {
    let python = python!();
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("data"));
    python.run("reflection.py", &[&server.url]);
}

#[test]
fn errors_say_what_is_wrong_in_the_standard_details() {
    let python = python!();
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("data"));
    python.run("errors.py", &[&server.url]);
}
