//! A client that shows replies as they came over the wire.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        Self { stream: BufReader::new(stream) }
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
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a reply");
        let count = || line[1..].trim().parse::<i64>().unwrap_or(0);
        match line.as_bytes().first() {
            Some(b'$') if count() >= 0 => {
                let mut bytes = vec![0; count() as usize + 2];
                self.stream.read_exact(&mut bytes).expect("the rest of it");
                line + &String::from_utf8_lossy(&bytes)
            }
            Some(b'*') => (0..count()).fold(line.clone(), |whole, _| whole + &self.reply()),
            Some(b'%') => (0..count() * 2).fold(line.clone(), |whole, _| whole + &self.reply()),
            _ => line,
        }
    }

    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0) | Err(_))
    }
}
