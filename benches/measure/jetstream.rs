//! NATS JetStream over the plain text protocol: one stream in files, one connection, one thread.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::rate;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Events that one fetch asks for; two fetches are under way at a time.
const FETCH: u64 = 2_000;
const READ_BUFFER_BYTES: usize = 256 << 10;
const PATIENCE: Duration = Duration::from_secs(10);

/// Publishes with so many events unacknowledged.
pub(crate) fn publish(server: SocketAddr, size: usize, window: u64, over: Duration) -> Outcome<Value> {
    let mut nats = Nats::connect(server)?;
    nats.call("STREAM.CREATE.ev", &json!({ "name": "ev", "subjects": ["ev.>"], "storage": "file" }))?;
    let message = format!("PUB ev.a inbox.ack {size}\r\n{}\r\n", "x".repeat(size));
    let (mut sent, mut acknowledged) = (0, 0);
    let started = Instant::now();
    let mut out = Vec::new();
    loop {
        let ends = started.elapsed() >= over;
        if ends && acknowledged == sent {
            return Ok(rate(sent, started.elapsed()));
        }
        while !ends && sent - acknowledged < window {
            out.extend_from_slice(message.as_bytes());
            sent += 1;
        }
        nats.write(&mut out)?;
        acknowledged += nats.drain(|message| {
            let refused = message.content.windows(7).any(|w| w == b"\"error\"");
            if refused { Err("a publish was refused".into()) } else { Ok(()) }
        })?;
    }
}

/// Fetches and acknowledges through a durable pull consumer, from the first event on.
pub(crate) fn consume(server: SocketAddr, over: Duration) -> Outcome<Value> {
    let mut nats = Nats::connect(server)?;
    let info = nats.call("STREAM.INFO.ev", &json!({}))?;
    let held = info["state"]["messages"].as_u64().unwrap_or_default();
    let config = json!({
        "durable_name": "g", "ack_policy": "explicit", "deliver_policy": "all", "max_ack_pending": 100_000,
    });
    nats.call("CONSUMER.DURABLE.CREATE.ev.g", &json!({ "stream_name": "ev", "config": config }))?;
    let fetch = format!("{{\"batch\":{FETCH}}}");
    let fetch = format!("PUB $JS.API.CONSUMER.MSG.NEXT.ev.g inbox.fetch {}\r\n{fetch}\r\n", fetch.len());
    let (mut taken, mut asked) = (0, 0);
    let started = Instant::now();
    let mut out = Vec::new();
    while taken < held && started.elapsed() < over {
        while asked - taken <= FETCH {
            out.extend_from_slice(fetch.as_bytes());
            asked += FETCH;
        }
        nats.write(&mut out)?;
        taken += nats.drain(|message| {
            let reply = message.reply.ok_or("a fetch was refused")?;
            write!(out, "PUB {reply} 4\r\n+ACK\r\n")?;
            Ok(())
        })?;
    }
    nats.write(&mut out)?;
    // The last acknowledgement is taken once a later call is answered.
    nats.call("STREAM.INFO.ev", &json!({}))?;
    Ok(rate(taken, started.elapsed()))
}

struct Message<'a> {
    reply: Option<&'a str>,
    content: &'a [u8],
}

struct Nats {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    line: String,
    content: Vec<u8>,
}

impl Nats {
    fn connect(server: SocketAddr) -> Outcome<Self> {
        let writer = TcpStream::connect(server)?;
        writer.set_nodelay(true)?;
        writer.set_read_timeout(Some(PATIENCE))?;
        let reader = BufReader::with_capacity(READ_BUFFER_BYTES, writer.try_clone()?);
        let mut nats = Self { reader, writer, line: String::new(), content: Vec::new() };
        nats.writer.write_all(b"CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB inbox.* 1\r\n")?;
        Ok(nats)
    }

    fn write(&mut self, out: &mut Vec<u8>) -> Outcome<()> {
        self.writer.write_all(out)?;
        out.clear();
        Ok(())
    }

    /// Asks JetStream's interface.
    fn call(&mut self, subject: &str, request: &Value) -> Outcome<Value> {
        let request = request.to_string();
        write!(self.writer, "PUB $JS.API.{subject} inbox.call {}\r\n{request}\r\n", request.len())?;
        loop {
            let mut answer = None;
            self.next(|message| {
                answer = serde_json::from_slice::<Value>(message.content).ok();
                Ok(())
            })?;
            match answer {
                Some(answer) if answer.get("error").is_some() => return Err(answer["error"].to_string().into()),
                Some(answer) if answer.get("type").is_some() => return Ok(answer),
                _ => {}
            }
        }
    }

    /// Waits for a message and takes all that have come whole; says how many.
    fn drain(&mut self, mut take: impl FnMut(Message<'_>) -> Outcome<()>) -> Outcome<u64> {
        let mut count = 0;
        // A message is two lines.
        while count == 0 || self.reader.buffer().iter().filter(|byte| **byte == b'\n').nth(1).is_some() {
            self.next(&mut take)?;
            count += 1;
        }
        Ok(count)
    }

    /// Waits for a message.
    fn next(&mut self, take: impl FnOnce(Message<'_>) -> Outcome<()>) -> Outcome<()> {
        loop {
            self.line.clear();
            if self.reader.read_line(&mut self.line)? == 0 {
                return Err("the server closed the connection".into());
            }
            let words: Vec<&str> = self.line.split_ascii_whitespace().collect();
            match words[..] {
                ["MSG" | "HMSG", .., length] => {
                    self.content.resize(length.parse::<usize>()? + 2, 0);
                    self.reader.read_exact(&mut self.content)?;
                    let reply = (words[0] == "MSG" && words.len() == 5).then(|| words[3]);
                    return take(Message { reply, content: &self.content });
                }
                ["PING"] => self.writer.write_all(b"PONG\r\n")?,
                ["-ERR", ..] => return Err(self.line.trim().into()),
                _ => {}
            }
        }
    }
}
