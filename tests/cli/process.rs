//! Server processes and commands for the tests: started, watched, and ended whatever happens.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The program, without settings from the environment of whoever runs the tests.
pub(crate) fn synapse() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_synapse"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SYNAPSE_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// A server process with a data directory of its own.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    pub(crate) folder: tempfile::TempDir,
}

impl Server {
    /// A server with defaults.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// A server with these flags besides.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"), flags)
    }

    /// A server on what the folder holds.
    pub(crate) fn start_in(folder: tempfile::TempDir, flags: &[&str]) -> Self {
        let mut child = Self::command(&folder.path().join("data"), flags).spawn().expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("its output can be read");
        let Some(url) = line.trim_end().strip_prefix("listening on ") else {
            let output = child.wait_with_output().expect("it ended");
            panic!("no server: {line:?} {}", String::from_utf8_lossy(&output.stderr));
        };
        Self { url: url.to_owned(), child, folder }
    }

    /// The command that starts a server there.
    pub(crate) fn command(data_dir: &std::path::Path, flags: &[&str]) -> Command {
        let mut command = synapse();
        command.args(["serve", "--listen", "127.0.0.1:0", "--segment-bytes", "1048576", "--data-dir"]);
        command.arg(data_dir).args(flags).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Its address without the scheme.
    pub(crate) fn address(&self) -> &str {
        self.url.split_once("://").expect("a url").1
    }

    /// A client command against it.
    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
        self.run_with_input(args, "")
    }

    /// A client command with standard input.
    pub(crate) fn run_with_input(&self, args: &[&str], input: &str) -> Outcome {
        let mut command = synapse();
        command.args(args).env("SYNAPSE_URL", &self.url);
        outcome(command, input)
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(mut self) -> (ExitStatus, String, tempfile::TempDir) {
        self.signal(Signal::TERM);
        let status = wait(&mut self.child, Duration::from_secs(20)).expect("it stops in time");
        let mut told = String::new();
        if let Some(stderr) = self.child.stderr.as_mut() {
            std::io::Read::read_to_string(stderr, &mut told).expect("text");
        }
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"));
        (status, told, folder)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Outcome {
    /// Its output; fails unless it succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }

    /// What it said on standard error; fails unless it ended with that code.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self.err
    }
}

/// Runs a command to its end, for a minute at most.
pub(crate) fn outcome(mut command: Command, input: &str) -> Outcome {
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|e| panic!("{command:?}: {e}"));
    // A command that fails early reads nothing.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let watchdog = Watchdog::new(&child, Duration::from_secs(60));
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
    drop(watchdog);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Outcome { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// Kills a process that takes too long, unless it is dropped before.
struct Watchdog(Option<std::sync::mpsc::Sender<()>>, Option<std::thread::JoinHandle<()>>);

impl Watchdog {
    fn new(child: &Child, limit: Duration) -> Self {
        let pid = Pid::from_child(child);
        let (sender, receiver) = std::sync::mpsc::channel();
        let watching = std::thread::spawn(move || {
            if receiver.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                // It may have ended just now.
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        Self(Some(sender), Some(watching))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.0.take());
        if let Some(watching) = self.1.take() {
            watching.join().expect("it only waits");
        }
    }
}

/// The exit status, if it comes in time.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let ends = Instant::now() + limit;
    while Instant::now() < ends {
        if let Some(status) = child.try_wait().expect("it is ours") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// A file beside the tests.
pub(crate) fn beside(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cli").join(path)
}
