//! Redis Streams, as Redis or Synapse serves them. One connection reads through a group (`XREADGROUP`) and acknowledges
//! (`XACK`), where the acknowledgement of one batch goes with the request for the next; or many wait in one group for
//! what one writer adds.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::rate;

const READ_BUFFER_BYTES: usize = 256 << 10;

/// Between two entries of the writer that others wait for.
const PAUSE: Duration = Duration::from_millis(1);

/// Takes what a stream holds, so many entries at a time.
pub(crate) fn consume(server: SocketAddr, stream: &str, batch: usize, over: Duration) -> Result<Json, Box<dyn Error>> {
    let mut writer = TcpStream::connect(server)?;
    writer.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, writer.try_clone()?);
    let mut out = command(&["XGROUP", "CREATE", stream, "g", "0"]);
    writer.write_all(&out)?;
    read(&mut reader)?;
    let batch = batch.to_string();
    let ask = command(&["XREADGROUP", "GROUP", "g", "c", "COUNT", &batch, "STREAMS", stream, ">"]);
    let (started, mut taken) = (Instant::now(), 0);
    writer.write_all(&ask)?;
    loop {
        let batch = ids(&read(&mut reader)?);
        if batch.is_empty() || started.elapsed() >= over {
            return Ok(rate(taken, started.elapsed()));
        }
        let mut words = vec!["XACK", stream, "g"];
        words.extend(batch.iter().map(String::as_str));
        out = command(&words);
        out.extend_from_slice(&ask);
        writer.write_all(&out)?;
        match read(&mut reader)? {
            Value::Text(done) if done.parse() == Ok(batch.len()) => taken += batch.len() as u64,
            _ => return Err("an acknowledgement was not taken".into()),
        }
    }
}

/// One writer adds an entry every millisecond, for which so many wait in one group; how long after it was sent, when it
/// was due, one of them has it.
pub(crate) fn wake(server: SocketAddr, waiting: usize, over: Duration) -> Result<Json, Box<dyn Error>> {
    let mut writer = TcpStream::connect(server)?;
    writer.set_nodelay(true)?;
    let mut answers = BufReader::new(writer.try_clone()?);
    writer.write_all(&command(&["XGROUP", "CREATE", "wake", "g", "$", "MKSTREAM"]))?;
    read(&mut answers)?;
    let started = Instant::now();
    let readers: Vec<_> = (0..waiting).map(|n| std::thread::spawn(move || wait(server, n, started))).collect();
    std::thread::sleep(Duration::from_millis(500));
    let begin = started.elapsed();
    for n in 0..(over.as_nanos() / PAUSE.as_nanos()) as u32 {
        let due = begin + PAUSE * n;
        std::thread::sleep(due.saturating_sub(started.elapsed()));
        writer.write_all(&command(&["XADD", "wake", "*", "due", &due.as_nanos().to_string()]))?;
        read(&mut answers)?;
    }
    for _ in 0..waiting {
        writer.write_all(&command(&["XADD", "wake", "*", "due", "0"]))?;
        read(&mut answers)?;
    }
    let mut micros = Vec::new();
    for reader in readers {
        micros.extend(reader.join().map_err(|_| "a reader panicked")??);
    }
    micros.sort_unstable();
    let at = |part: f64| micros.get(((micros.len().max(1) - 1) as f64 * part) as usize).copied().unwrap_or(0);
    Ok(json!({
        "events": micros.len(),
        "latency_us": { "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": at(1.0) },
    }))
}

/// Waits for entries, one at a time, and acknowledges them, until one says that it is the last; the delays in
/// microseconds.
fn wait(server: SocketAddr, n: usize, started: Instant) -> io::Result<Vec<u64>> {
    let mut writer = TcpStream::connect(server)?;
    writer.set_nodelay(true)?;
    let (mut reader, consumer) = (BufReader::new(writer.try_clone()?), format!("c{n}"));
    let ask = command(&["XREADGROUP", "GROUP", "g", &consumer, "COUNT", "1", "BLOCK", "0", "STREAMS", "wake", ">"]);
    let mut micros = Vec::new();
    loop {
        writer.write_all(&ask)?;
        let answer = read(&mut reader)?;
        let now = started.elapsed().as_nanos() as u64;
        let due = answer.texts().last().and_then(|text| text.parse::<u64>().ok());
        let due = due.ok_or_else(|| io::Error::other("no entry came"))?;
        for id in ids(&answer) {
            writer.write_all(&command(&["XACK", "wake", "g", &id]))?;
            read(&mut reader)?;
        }
        if due == 0 {
            return Ok(micros);
        }
        micros.push(now.saturating_sub(due) / 1000);
    }
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len());
    for word in words {
        out += &format!("${}\r\n{word}\r\n", word.len());
    }
    out.into_bytes()
}

enum Value {
    Text(String),
    List(Vec<Value>),
}

impl Value {
    /// All texts in it, in their order.
    fn texts(&self) -> Vec<&str> {
        match self {
            Self::Text(text) => vec![text],
            Self::List(values) => values.iter().flat_map(Self::texts).collect(),
        }
    }
}

fn read(reader: &mut impl BufRead) -> io::Result<Value> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let (kind, rest) = line.trim_end().split_at_checked(1).ok_or(io::ErrorKind::UnexpectedEof)?;
    let length = || rest.parse::<i64>().map_err(io::Error::other);
    match kind {
        "*" => Ok(Value::List((0..length()?).map(|_| read(reader)).collect::<io::Result<_>>()?)),
        "$" => {
            let mut text = vec![0; usize::try_from(length()?).map_or(0, |n| n + 2)];
            reader.read_exact(&mut text)?;
            text.truncate(text.len().saturating_sub(2));
            Ok(Value::Text(String::from_utf8_lossy(&text).into_owned()))
        }
        "-" => Err(io::Error::other(rest.to_owned())),
        _ => Ok(Value::Text(rest.to_owned())),
    }
}

/// The ids in the answer to `XREADGROUP` of one stream; none where there is nothing.
fn ids(answer: &Value) -> Vec<String> {
    let Value::List(streams) = answer else { return Vec::new() };
    let Some(Value::List(stream)) = streams.first() else { return Vec::new() };
    let Some(Value::List(entries)) = stream.get(1) else { return Vec::new() };
    let id = |entry: &Value| match entry {
        Value::List(parts) => match parts.first() {
            Some(Value::Text(id)) => Some(id.clone()),
            _ => None,
        },
        Value::Text(_) => None,
    };
    entries.iter().filter_map(id).collect()
}
