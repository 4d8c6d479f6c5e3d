//! Redis Streams: one connection reads through a group (`XREADGROUP`) and acknowledges (`XACK`); the acknowledgement of
//! one batch goes with the request for the next.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::rate;

const BATCH: &str = "1000";
const READ_BUFFER_BYTES: usize = 256 << 10;

pub(crate) fn consume(server: SocketAddr, stream: &str, over: Duration) -> Result<Json, Box<dyn Error>> {
    let mut writer = TcpStream::connect(server)?;
    writer.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, writer.try_clone()?);
    let mut out = command(&["XGROUP", "CREATE", stream, "g", "0"]);
    writer.write_all(&out)?;
    read(&mut reader)?;
    let ask = command(&["XREADGROUP", "GROUP", "g", "c", "COUNT", BATCH, "STREAMS", stream, ">"]);
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
