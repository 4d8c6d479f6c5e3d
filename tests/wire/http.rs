//! What the HTTP tests share: a server on a free port, and a client that speaks HTTP/1.1 by hand, so that it can also
//! say what no library would.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use synapse::access::{ApiKey, Keyring};
use synapse::clock::SystemClock;
use synapse::engine::{Engine, EngineOptions};
use synapse::http::{HttpOptions, router};
use synapse::metrics::Metrics;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// A server over an engine in a folder of its own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Engine,
    pub(crate) shutdown: CancellationToken,
    runtime: Option<Runtime>,
    _folder: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(Vec::new(), HttpOptions::default())
    }

    pub(crate) fn start_with(keys: Vec<ApiKey>, options: HttpOptions) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let engine_options = EngineOptions::new(folder.path().join("data"));
        // The largest publish must fit a segment.
        let engine_options = EngineOptions { segment_bytes: 16 << 20, ..engine_options };
        let engine = Engine::open(engine_options).expect("an empty folder opens");
        let keyring = Keyring::new(keys).expect("good keys");
        let shutdown = CancellationToken::new();
        let app = router(engine.clone(), keyring, options, shutdown.clone(), Metrics::new(), SystemClock::new());
        let app = app.expect("good options");
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("bound");
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { address, engine, shutdown, runtime: Some(runtime), _folder: folder }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }
    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, &[], b"")
    }
    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, &[("content-type", "application/json")], body.as_bytes())
    }
    pub(crate) fn patch(&self, path: &str, body: &str) -> Answer {
        self.ask("PATCH", path, &[("content-type", "application/json")], body.as_bytes())
    }
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut socket = self.connect();
        send(&mut socket, method, path, headers, body);
        Answer::read(&mut BufReader::new(socket))
    }

    /// Opens a request whose answer does not end.
    pub(crate) fn follow(&self, path: &str, headers: &[(&str, &str)]) -> Follower {
        let mut socket = self.connect();
        send(&mut socket, "GET", path, headers, b"");
        let mut reader = BufReader::new(socket);
        let (status, headers) = read_head(&mut reader);
        assert_eq!(status, 200, "{headers:?}");
        Follower { reader, pending: String::new() }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).expect("the server listens");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        socket
    }

    /// Makes a stream with events of these numbers, and says their ids.
    pub(crate) fn fill(&self, stream: &str, numbers: std::ops::Range<u64>) -> Vec<String> {
        let events: Vec<String> = numbers.map(|n| format!("{{\"event\":\"tick\",\"n\":{n}}}")).collect();
        let answer = self.post(&format!("/events/{stream}"), &format!("[{}]", events.join(",")));
        answer.is(201).json()["ids"].as_array().expect("ids").iter().map(|id| text(id).to_owned()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
        let _ = futures::executor::block_on(self.engine.shutdown());
    }
}

fn send(socket: &mut TcpStream, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
    let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        head.push_str("host: 127.0.0.1\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    socket.write_all(head.as_bytes()).expect("sent");
    // A server that refuses a body may close before it has read it.
    let _ = socket.write_all(body);
}

fn read_head(reader: &mut impl BufRead) -> (u16, Vec<(String, String)>) {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a status line");
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{line:?}"));
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).expect("a header");
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => return (status, headers),
        }
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    fn read(reader: &mut impl BufRead) -> Self {
        let (status, headers) = read_head(reader);
        let mut body = Vec::new();
        let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, l)| l.parse().ok());
        match length {
            Some(length) => {
                body.resize(length, 0);
                reader.read_exact(&mut body).expect("a body");
            }
            None => drop(reader.read_to_end(&mut body)),
        }
        Self { status, headers, body: String::from_utf8(body).expect("text") }
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    /// That it is a problem with this status and reason.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, reason: &str) -> Value {
        let kind = self.header("content-type").map(str::to_owned);
        let problem = self.is(status).json();
        assert_eq!(kind.as_deref(), Some("application/problem+json"));
        assert_eq!(
            (text(&problem["reason"]), problem["status"].as_u64()),
            (reason, Some(u64::from(status))),
            "{problem}"
        );
        problem
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {:?}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// A live view.
pub(crate) struct Follower {
    reader: BufReader<TcpStream>,
    pending: String,
}

impl Follower {
    /// The next frame as its lines, comments included.
    pub(crate) fn frame(&mut self) -> Vec<String> {
        loop {
            if let Some((frame, rest)) = self.pending.split_once("\n\n") {
                let lines = frame.lines().map(str::to_owned).collect();
                self.pending = rest.to_owned();
                return lines;
            }
            self.read_chunk();
        }
    }

    /// The next event that is not a comment: its fields, the data put together.
    pub(crate) fn event(&mut self) -> (String, Value) {
        loop {
            let lines = self.frame();
            if lines.iter().all(|line| line.starts_with(':')) {
                continue;
            }
            let first = lines[0].clone();
            let data: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("data: ")).collect();
            return (first, serde_json::from_str(&data.join("\n")).expect("JSON"));
        }
    }

    /// That nothing more comes: the server has ended the answer.
    pub(crate) fn ended(mut self) {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("the last chunk");
        assert_eq!(line.trim_end(), "0", "more came");
    }

    fn read_chunk(&mut self) {
        let mut size = String::new();
        self.reader.read_line(&mut size).expect("a chunk");
        let size = usize::from_str_radix(size.trim_end(), 16).expect("a size");
        assert_ne!(size, 0, "the live view ended");
        let mut chunk = vec![0; size + 2];
        self.reader.read_exact(&mut chunk).expect("a whole chunk");
        self.pending.push_str(std::str::from_utf8(&chunk[..size]).expect("text"));
    }
}

#[track_caller]
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not text: {value}"))
}
