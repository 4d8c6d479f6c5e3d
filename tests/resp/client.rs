//! A client that shows replies as they came over the wire.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long a reply is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self { stream: BufReader::new(stream) }
    }

    /// A whole reply; `None` where none begins within this time.
    pub(crate) fn reply_within(&mut self, patience: Duration) -> Option<String> {
        self.stream.get_ref().set_read_timeout(Some(patience)).expect("a socket");
        let begins = self.stream.fill_buf().is_ok();
        self.stream.get_ref().set_read_timeout(Some(PATIENCE)).expect("a socket");
        begins.then(|| self.whole_reply())
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("sends");
    }

    /// Sends a command, words between blanks (quotes as redis-cli has them), and reads the reply.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// One whole reply.
    pub(crate) fn reply(&mut self) -> String {
        self.reply_within(PATIENCE).expect("a reply")
    }

    fn whole_reply(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a reply");
        let count = || line[1..].trim().parse::<i64>().unwrap_or(0);
        match line.as_bytes().first() {
            Some(b'$' | b'=') if count() >= 0 => {
                let mut bytes = vec![0; count() as usize + 2];
                self.stream.read_exact(&mut bytes).expect("the rest of it");
                line + &String::from_utf8_lossy(&bytes)
            }
            Some(b'*') => (0..count()).fold(line.clone(), |whole, _| whole + &self.whole_reply()),
            Some(b'%') => (0..count() * 2).fold(line.clone(), |whole, _| whole + &self.whole_reply()),
            _ => line,
        }
    }

    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0) | Err(_))
    }
}
