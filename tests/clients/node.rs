//! The Node packages of the tests. Installed once.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::tools::{kept, or_skipped, run};

/// Both versions of ioredis that services use.
const PACKAGES: [&str; 2] = ["ioredis@6.0.0", "ioredis-5@npm:ioredis@5.11.1"];

/// The folder of the packages, for `NODE_PATH`.
pub(crate) fn prepared() -> Option<&'static PathBuf> {
    static PREPARED: OnceLock<Option<PathBuf>> = OnceLock::new();
    PREPARED.get_or_init(|| or_skipped(prepare())).as_ref()
}

fn prepare() -> Result<PathBuf, String> {
    run(Command::new("node").arg("--version"))?;
    let folder = kept("node");
    let (wanted, installed) = (PACKAGES.join(" "), folder.join("installed.txt"));
    if !std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        let options = ["install", "--no-audit", "--no-fund", "--silent", "--prefix", "."];
        run(Command::new("npm").current_dir(&folder).args(options).args(PACKAGES))?;
        std::fs::write(&installed, wanted).expect("the list is kept");
    }
    Ok(folder.join("node_modules"))
}
