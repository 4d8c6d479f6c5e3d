//! The program as a process with a Redis port, which can be killed and started again on the same ports.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running server; killed with it.
pub(crate) struct Server {
    child: Child,
    /// Where gRPC and HTTP are.
    pub(crate) url: String,
    pub(crate) redis_port: u16,
}

impl Server {
    /// Starts on what this data directory holds.
    pub(crate) fn start(data_dir: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a free port").port();
        Self::start_on(data_dir, port)
    }

    /// The same with this Redis port; waits until it listens there.
    pub(crate) fn start_on(data_dir: &Path, redis_port: u16) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_synapse"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SYNAPSE_")) {
            command.env_remove(name);
        }
        command.args(["serve", "--listen", "127.0.0.1:0", "--resp-listen", &format!("127.0.0.1:{redis_port}")]);
        command.arg("--data-dir").arg(data_dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines().take(2);
        let lines = lines.collect::<Result<Vec<_>, _>>().expect("its output can be read");
        assert!(lines.len() == 2, "the server did not start: {lines:?}");
        let url = lines[0].strip_prefix("listening on ").expect("it says where").to_owned();
        Self { child, url, redis_port }
    }

    /// SIGTERM; the server drains and ends well.
    pub(crate) fn terminate(mut self) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("it runs");
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
