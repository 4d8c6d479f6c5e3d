//! The stream tests of Redis itself, as they are in the source of version 7.0.15 that Debian keeps, against a server that
//! is there already. Cases that save and load the files of Redis are not for such a server and leave themselves out.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use crate::published::{Outcome, left_out};
use crate::tools::{kept, or_skipped, output, run};

const SOURCE: &str = "http://deb.debian.org/debian/pool/main/r/redis/redis_7.0.15.orig.tar.gz";
const SHA256: &str = "4b1dc4ee6d622a09fff9c6777191209750fb5e5a725ef78ea012d6eef4c22982";
const SECONDS_MAX: &str = "300";

/// The tests, unpacked.
pub(crate) struct Suite {
    folder: PathBuf,
}

pub(crate) fn prepared() -> Option<Suite> {
    or_skipped(prepare())
}

fn prepare() -> Result<Suite, String> {
    run(Command::new("tclsh").arg("/dev/null"))?;
    let (kept, name) = (kept("redis-suite"), "redis.tar.gz");
    let is_there = |kept: &PathBuf| {
        let sums = format!("{SHA256}  {name}\n");
        std::fs::write(kept.join("sums"), sums).expect("written");
        run(Command::new("sha256sum").args(["--check", "--status", "sums"]).current_dir(kept))
    };
    if is_there(&kept).is_err() {
        run(Command::new("curl").args(["-sSfL", "--retry", "3", "-o", name, SOURCE]).current_dir(&kept))?;
        is_there(&kept)?;
    }
    run(Command::new("tar").args(["xzf", name]).current_dir(&kept))?;
    Ok(Suite { folder: kept.join("redis-7.0.15") })
}

impl Suite {
    /// Runs one of its units against the server on this port.
    pub(crate) fn run(&self, unit: &str, port: u16) -> Outcome {
        let skipped = self.folder.join("left-out.txt");
        std::fs::write(&skipped, left_out("redis").join("\n")).expect("written");
        let mut command = Command::new("timeout");
        command.args([SECONDS_MAX, "./runtest", "--host", "127.0.0.1", "--port", &port.to_string(), "--singledb"]);
        command.args(["--durable", "--tags", "-needs:debug", "--single", unit, "--skipfile"]).arg(skipped);
        // Without colours.
        command.current_dir(&self.folder).env("TERM", "dumb");
        let output = output(&mut command).expect("it is run");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let cases = |kind: &str| {
            let mark = format!("[{kind}]: ");
            text.lines().filter_map(move |line| line.strip_prefix(mark.as_str()).map(str::to_owned)).collect::<Vec<_>>()
        };
        let name = |case: String| case.split(" in tests/").next().unwrap_or_default().to_owned();
        let mut failed: BTreeSet<String> = cases("err").into_iter().map(name).collect();
        if !text.contains("The following tests failed") && !text.contains("All tests passed") {
            failed.insert(format!("{unit} to its end"));
        }
        Outcome { passed: cases("ok").len(), failed, output: format!("{unit}\n{text}") }
    }
}
