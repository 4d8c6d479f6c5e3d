//! The Python of the tests: a virtual environment with the stock gRPC packages, and stubs from `proto/`. Made once.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// A Python that has what the programs of the tests import.
pub(crate) struct Python {
    program: PathBuf,
    stubs: PathBuf,
}

impl Python {
    /// The Python of the tests, made by whoever comes first; `None`, with a message, where the machine has none.
    pub(crate) fn prepared() -> Option<&'static Self> {
        static PREPARED: OnceLock<Option<Python>> = OnceLock::new();
        PREPARED.get_or_init(Self::prepare).as_ref()
    }

    fn prepare() -> Option<Self> {
        let has_python = Command::new("python3").args(["-c", "import venv, ensurepip"]).output();
        if !has_python.is_ok_and(|output| output.status.success()) {
            assert!(std::env::var_os("CI").is_none(), "python3 with venv is missing");
            eprintln!("SKIPPED: python3 with venv is missing");
            return None;
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
        let (venv, stubs) = (folder.join("venv"), folder.join("stubs"));
        let program = venv.join("bin").join("python");
        install(&folder, &venv, &program);
        generate(&program, &stubs);
        Some(Self { program, stubs })
    }

    /// Runs a program of `tests/python` to its end; fails with its output where it failed.
    pub(crate) fn run(&self, name: &str, args: &[&str]) {
        let program = source(name);
        let args = [program.as_os_str()].into_iter().chain(args.iter().map(OsStr::new));
        let output = Command::new(&self.program).args(args).env("PYTHONPATH", &self.stubs).output();
        print!("{}", checked(name, output));
    }
}

/// Installs the packages, unless these very ones are there already.
fn install(folder: &Path, venv: &Path, program: &Path) {
    let requirements = source("requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).expect("the list of packages");
    let installed = folder.join("installed.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return;
    }
    checked("venv", Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv).output());
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    checked("pip", Command::new(program).args(pip).arg(&requirements).output());
    std::fs::write(&installed, wanted).expect("the list is kept");
}

/// Generates the stubs anew: `proto/` may have changed.
fn generate(program: &Path, stubs: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let folder = std::fs::read_dir(root.join("synapse/v1")).expect("the proto files");
    let files =
        folder.map(|entry| entry.expect("an entry").path()).filter(|path| path.extension() == Some("proto".as_ref()));
    std::fs::create_dir_all(stubs).expect("a folder");
    let mut command = Command::new(program);
    command.args(["-m", "grpc_tools.protoc", "-I"]).arg(&root);
    for out in ["python_out", "grpc_python_out"] {
        command.arg(format!("--{out}={}", stubs.display()));
    }
    checked("protoc", command.args(files).output());
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name)
}

/// The standard output of what ran; fails with all of its output where it failed.
fn checked(what: &str, output: std::io::Result<Output>) -> String {
    let output = output.unwrap_or_else(|error| panic!("{what}: {error}"));
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{what}: {}\n{out}{}", output.status, String::from_utf8_lossy(&output.stderr));
    out
}
