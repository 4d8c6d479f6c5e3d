//! A disk that fails on demand under a real process: `faults.c`, preloaded.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The library and the folder in which it is told what to do.
pub(crate) struct FailingDisk {
    folder: tempfile::TempDir,
}

/// A call that reached the files of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// `sync`, `allocate` or `write`.
    pub(crate) what: String,
    /// The file's name.
    pub(crate) name: String,
    pub(crate) failed: bool,
}

impl FailingDisk {
    /// For the log of this data directory. `None`, with a word about it, where there is no C compiler; CI must have one.
    pub(crate) fn under(data_dir: &Path) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/process/faults.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(folder.path().join("faults.so"));
        match compiler.arg(source).status() {
            Ok(status) => assert!(status.success(), "faults.c does not compile"),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "cc is needed: {error}");
                eprintln!("SKIPPED: there is no C compiler (cc): {error}");
                return None;
            }
        }
        let parent = data_dir.parent().expect("it has one").canonicalize().expect("it is there");
        let log = parent.join(data_dir.file_name().expect("it has a name")).join("log");
        std::fs::write(folder.path().join("path"), log.to_str().expect("text")).expect("written");
        Some(Self { folder })
    }

    /// Puts the disk under the program that the command starts.
    pub(crate) fn put_under(&self, command: &mut Command) {
        command.env("LD_PRELOAD", self.folder.path().join("faults.so"));
        command.env("SYNAPSE_TEST_FAULTS", self.folder.path());
    }

    /// From now on every `sync`, `allocate` or `write` of files whose names begin so fails.
    pub(crate) fn fail(&self, what: &str, beginning: &str) {
        let trigger = self.folder.path().join(format!("fail-{what}"));
        let made = trigger.with_extension("new");
        std::fs::write(&made, beginning).expect("written");
        std::fs::rename(made, trigger).expect("renamed");
    }

    /// The calls up to now.
    pub(crate) fn calls(&self) -> Vec<Call> {
        let told = std::fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        let call = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            let mut word = || words.next().expect("three words");
            Call { what: word(), name: word(), failed: word() == "failed" }
        };
        told.lines().map(call).collect()
    }
}
