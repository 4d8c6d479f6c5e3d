//! What the tests need of the machine: folders that are kept, programs that are run, and what is said where one is missing.

use std::path::PathBuf;
use std::process::{Command, Output};

/// A folder that outlives the run, for what was downloaded and built.
pub(crate) fn kept(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("clients").join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// A file of `tests/clients`.
pub(crate) fn source(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// What was prepared; where that failed, says why the test is skipped, and fails it in CI.
pub(crate) fn or_skipped<T>(prepared: Result<T, String>) -> Option<T> {
    prepared
        .inspect_err(|why| {
            assert!(std::env::var_os("CI").is_none(), "needed in CI: {why}");
            eprintln!("SKIPPED: {why}");
        })
        .ok()
}

/// The output of a program that is to succeed; else what it was and all that it said.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let output = output(command)?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(out);
    }
    Err(format!("{command:?}: {}\n{out}{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// The output of a program, however it ended.
pub(crate) fn output(command: &mut Command) -> Result<Output, String> {
    command.output().map_err(|error| format!("{command:?}: {error}"))
}

/// What redis-cli shows of a command's reply, for a program to read: no quotes, no numbers.
pub(crate) fn redis_cli(port: u16, command: &[&str]) -> Result<String, String> {
    run(Command::new("redis-cli").args(["-e", "-p", &port.to_string()]).args(command))
}
