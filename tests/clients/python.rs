//! The Python of the tests: a virtual environment with redis-py and pytest, and the source packages of redis-py, which
//! hold its tests. Made once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::published::Outcome;
use crate::tools::{kept, or_skipped, output, run, source};

/// Versions of redis-py whose tests are run: the newest, and the newest of those before 6 whose tests need nothing else.
pub(crate) const PUBLISHED: [&str; 2] = ["5.2.1", "8.1.0"];

/// The cases that are run: those of the stream commands, and those of what clients ask about connections.
const CASES: &str = "test_x or stream or test_client_list or test_client_info or test_client_id or test_client_unblock or \
                     test_client_getname or test_client_setname or (test_client_kill and not by_user) or \
                     test_client_no_ or test_config_resetstat or test_ping or test_echo or test_time or test_reset";

/// A Python that has what the tests import.
pub(crate) struct Python {
    program: PathBuf,
    sources: PathBuf,
}

/// The Python of the tests, made by whoever comes first.
pub(crate) fn prepared() -> Option<&'static Python> {
    static PREPARED: OnceLock<Option<Python>> = OnceLock::new();
    PREPARED.get_or_init(|| or_skipped(prepare())).as_ref()
}

fn prepare() -> Result<Python, String> {
    let (folder, sources) = (kept("python"), kept("redis-py"));
    let program = folder.join("bin").join("python");
    let requirements = source("requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).expect("the list of packages");
    let installed = folder.join("installed.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(Python { program, sources });
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    run(pip(&program, "install").arg("--requirement").arg(&requirements))?;
    for version in PUBLISHED {
        download(&program, &sources, version)?;
    }
    std::fs::write(&installed, wanted).expect("the list is kept");
    Ok(Python { program, sources })
}

/// The source package of a version, unpacked.
fn download(python: &Path, folder: &Path, version: &str) -> Result<(), String> {
    let package = format!("redis=={version}");
    let options = ["--no-deps", "--no-binary", "redis", &package, "--dest"];
    run(pip(python, "download").args(options).arg(folder))?;
    let archive = folder.join(format!("redis-{version}.tar.gz"));
    run(Command::new(python).args(["-m", "tarfile", "-e"]).arg(archive).arg(folder)).map(|_| ())
}

fn pip(python: &Path, what: &str) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", "pip", what, "--quiet", "--disable-pip-version-check"]);
    command
}

impl Python {
    /// A program of `tests/clients`.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(source(name));
        command
    }

    /// Runs the tests of streams and of connections of this version of redis-py, blocking and asyncio, over this version of the protocol.
    pub(crate) fn published_tests(&self, version: &str, protocol: &str, port: u16) -> Outcome {
        let mut command = Command::new(&self.program);
        command.current_dir(self.sources.join(format!("redis-{version}")));
        command.args(["-m", "pytest", "tests/test_commands.py", "tests/test_asyncio/test_commands.py"]);
        command.args(["-k", CASES, "-rpfE", "--tb=short", "-p", "no:cacheprovider"]);
        command.args(["-o", "addopts=", "-o", "asyncio_mode=auto", "--protocol", protocol]);
        command.args(["--redis-url", &format!("redis://127.0.0.1:{port}/0")]);
        let output = output(&mut command).expect("pytest runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = format!("redis-py {version}, RESP{protocol}\n{text}{}", String::from_utf8_lossy(&output.stderr));
        let passed = text.lines().filter(|line| line.starts_with("PASSED ")).count();
        let failed = text.lines().filter_map(|line| {
            line.strip_prefix("FAILED ").or_else(|| line.strip_prefix("ERROR ")).map(|line| case(line).to_owned())
        });
        Outcome { passed, failed: failed.collect(), output: said }
    }
}

/// The name of a case in a line of pytest's summary, without its variant.
fn case(line: &str) -> &str {
    let id = line.split(" - ").next().unwrap_or(line);
    let name = id.rsplit("::").next().unwrap_or(id);
    name.split('[').next().unwrap_or(name)
}
