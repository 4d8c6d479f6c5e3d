//! The program as a process that is killed without warning.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Small files, so that much happens to them.
pub(crate) const FLAGS: [&str; 4] = ["--segment-bytes", "1048576", "--checkpoint-bytes", "1048576"];

/// A running server; ends with it.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) url: String,
}

impl Server {
    /// Starts on what this data directory holds, and waits until it listens.
    pub(crate) fn start(data_dir: &Path) -> Self {
        Self::start_on(data_dir, "127.0.0.1:0", &FLAGS)
    }

    /// Starts so at this address, with further flags.
    pub(crate) fn start_on(data_dir: &Path, address: &str, flags: &[&str]) -> Self {
        Self::spawn(Self::command(data_dir, address, flags))
    }

    /// The command that starts it.
    pub(crate) fn command(data_dir: &Path, address: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_synapse"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SYNAPSE_")) {
            command.env_remove(name);
        }
        command.args(["serve", "--listen", address, "--data-dir"]).arg(data_dir).args(flags);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        command
    }

    /// Starts it by that command, and waits until it listens.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("piped");
        // Not a byte more than the line: what comes after it is for others to read.
        BufReader::with_capacity(1, stdout).read_line(&mut line).expect("its output can be read");
        let url = line.trim_end().strip_prefix("listening on ").map(str::to_owned);
        Self { child, url: url.unwrap_or_else(|| panic!("the server did not start: {line:?}")) }
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Server {
    /// SIGTERM; the server drains and ends well.
    pub(crate) fn terminate(mut self) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::TERM)
            .expect("it runs");
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
