//! The stream tests of redis-rs, from its crate: compiled as they are in a package of their own, with what they import.
//! They start a `redis-server` for each case; what they find by that name starts Synapse.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::published::Outcome;
use crate::tools::{kept, or_skipped, output, run, source};

/// The package, of which the place of the tests is left to be said.
const PACKAGE: &str = r#"
[package]
name = "published"
version = "0.0.0"
edition = "2024"

[workspace]

[lib]
path = "lib.rs"

[features]
default = ["num-bigint", "streams"]
num-bigint = []
streams = []

[dependencies]
redis = "=1.8.1"

[dev-dependencies]
assert_matches = "=1.5.0"
redis-test = "=1.0.4"
rstest = { version = "=0.26.1", default-features = false }
tempfile = "3"
tokio = { version = "1", features = ["rt", "time"] }

[lints.rust]
unexpected_cfgs = "allow"

[profile.dev]
debug = false
"#;

/// The tests, compiled.
pub(crate) struct Tests {
    folder: PathBuf,
}

pub(crate) fn prepared() -> Option<&'static Tests> {
    static PREPARED: OnceLock<Option<Tests>> = OnceLock::new();
    PREPARED.get_or_init(|| or_skipped(prepare())).as_ref()
}

fn prepare() -> Result<Tests, String> {
    let folder = kept("redis-rs");
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("written");
    write("lib.rs", "");
    write("Cargo.toml", PACKAGE);
    let tests = Tests { folder };
    let metadata = run(tests.cargo().args(["metadata", "--quiet", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).expect("cargo writes JSON");
    let mut packages = metadata["packages"].as_array().expect("it lists the packages").iter();
    let redis = packages.find(|package| package["name"] == "redis").expect("it was asked for");
    let manifest = redis["manifest_path"].as_str().expect("a path");
    let path = PathBuf::from(manifest).with_file_name("tests").join("test_streams.rs");
    let service = source("service.rs");
    let targets = format!(
        "[[test]]\nname = \"test_streams\"\npath = {path:?}\n\n[[bin]]\nname = \"service\"\npath = {service:?}\n"
    );
    std::fs::write(tests.folder.join("Cargo.toml"), format!("{PACKAGE}\n{targets}")).expect("written");
    run(tests.cargo().args(["test", "--quiet", "--no-run", "--test", "test_streams"]))?;
    run(tests.cargo().args(["build", "--quiet", "--bin", "service"]))?;
    Ok(tests)
}

impl Tests {
    fn cargo(&self) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.folder).env("CARGO_TARGET_DIR", self.folder.join("target"));
        command
    }

    /// The service that uses redis-rs.
    pub(crate) fn service(&self) -> Command {
        Command::new(self.folder.join("target/debug/service"))
    }

    /// Runs them over this version of the protocol.
    pub(crate) fn run(&self, protocol: &str) -> Outcome {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("redis-server");
        std::os::unix::fs::symlink(source("redis-server.sh"), &program).expect("a link");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = self.cargo();
        command.env("PATH", format!("{}:{path}", folder.path().display())).env("PROTOCOL", protocol);
        command.env("SERVED_BY", env!("CARGO_BIN_EXE_synapse")).env("SERVED_FROM", folder.path());
        command.args(["test", "--test", "test_streams", "--", "--test-threads", "2"]);
        let output = output(&mut command).expect("cargo runs");
        let left = std::fs::read_dir(folder.path()).expect("is there").count();
        assert!(left <= 8, "{left} files and folders: data of servers that are gone fills the disk");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let cases = || text.lines().filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "));
        let passed = cases().filter(|(_, how)| *how == "ok").count();
        let failed = cases().filter(|(_, how)| *how == "FAILED").map(|(case, _)| case.to_owned()).collect();
        let said = format!("redis-rs, {protocol}\n{text}{}", String::from_utf8_lossy(&output.stderr));
        Outcome { passed, failed, output: said }
    }
}
