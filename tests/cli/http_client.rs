//! As much of an HTTP/1.1 client as the tests need: requests on a kept connection, and live views.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A connection that is kept.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    address: String,
}

impl Connection {
    pub(crate) fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("set");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
        Self { stream: BufReader::new(stream), address: address.to_owned() }
    }

    /// Posts JSON; answers status and body.
    pub(crate) fn post(&mut self, path: &str, json: &str) -> (u16, String) {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{json}",
            self.address,
            json.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).expect("sent");
        let (status, length) = self.head();
        let mut body = vec![0; length.expect("a body of known length")];
        self.stream.read_exact(&mut body).expect("the body");
        (status, String::from_utf8(body).expect("text"))
    }

    /// Status and length of the body of the next answer.
    fn head(&mut self) -> (u16, Option<usize>) {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a status line");
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{line:?}"));
        let mut length = None;
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("a header");
            match line.trim_end().split_once(':') {
                None => return (status, length),
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().ok();
                }
                Some(_) => {}
            }
        }
    }
}

/// A live view: server-sent events in chunks.
pub(crate) struct Live {
    stream: TcpStream,
    raw: Vec<u8>,
    text: Vec<u8>,
}

impl Live {
    pub(crate) fn open(address: &str, path: &str) -> Self {
        let mut connection = Connection::open(address);
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
        connection.stream.get_mut().write_all(request.as_bytes()).expect("sent");
        let (status, length) = connection.head();
        assert_eq!((status, length), (200, None), "a live view");
        let raw = connection.stream.buffer().to_vec();
        Self { stream: connection.stream.into_inner(), raw, text: Vec::new() }
    }

    /// The data of the events that came, waiting for some for so long.
    pub(crate) fn next(&mut self, wait: Duration) -> Vec<String> {
        self.stream.set_read_timeout(Some(wait)).expect("set");
        let mut buffer = vec![0; 64 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => panic!("the live view ended"),
            Ok(count) => self.raw.extend(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => panic!("{error}"),
        }
        while self.take_chunk() {}
        let whole = self.text.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
        let lines: Vec<u8> = self.text.drain(..whole).collect();
        let lines = String::from_utf8(lines).expect("text");
        lines.lines().filter_map(|l| l.strip_prefix("data:")).map(|l| l.trim_start().to_owned()).collect()
    }

    /// Moves one whole chunk from what came to the text.
    fn take_chunk(&mut self) -> bool {
        let Some(line) = self.raw.windows(2).position(|w| w == b"\r\n") else { return false };
        let size = std::str::from_utf8(&self.raw[..line]).ok().and_then(|s| usize::from_str_radix(s, 16).ok());
        let (start, size) = (line + 2, size.expect("a chunk's size"));
        if self.raw.len() < start + size + 2 {
            return false;
        }
        self.text.extend(&self.raw[start..start + size]);
        self.raw.drain(..start + size + 2);
        true
    }
}
