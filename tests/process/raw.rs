//! HTTP/2 by hand, so that a client can do what no library would.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A frame as it came.
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A connection that has said the preface.
pub(crate) struct Raw {
    pub(crate) socket: TcpStream,
    /// Bytes that the peer takes on the whole connection.
    pub(crate) window: i64,
    buffer: Vec<u8>,
    next: u32,
}

impl Raw {
    /// Connects, and says how much of each answer may come before it asks for more.
    pub(crate) fn connect(address: &str, answer_window: u32) -> Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_millis(2)))?;
        socket.set_write_timeout(Some(Duration::from_millis(300)))?;
        let mut raw = Self { socket, window: 65_535, buffer: Vec::new(), next: 1 };
        raw.socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        let settings = [&[0, 4][..], &answer_window.to_be_bytes()].concat();
        raw.send(SETTINGS, 0, 0, &settings)?;
        Ok(raw)
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<()> {
        self.socket.write_all(&frame(kind, flags, stream, payload))
    }

    /// Begins a call, and leaves its request open.
    pub(crate) fn call(&mut self, path: &str) -> Result<u32> {
        let stream = self.next;
        self.next += 2;
        self.send(HEADERS, END_HEADERS, stream, &headers(path))?;
        Ok(stream)
    }

    /// Sends part of a request.
    pub(crate) fn data(&mut self, stream: u32, payload: &[u8]) -> Result<()> {
        self.window -= payload.len() as i64;
        self.send(DATA, 0, stream, payload)
    }

    /// What came up to now. An error where the connection has ended.
    pub(crate) fn receive(&mut self) -> Result<Vec<Frame>> {
        let mut chunk = vec![0; 64 << 10];
        match self.socket.read(&mut chunk) {
            Ok(0) if self.buffer.is_empty() => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        let mut frames = Vec::new();
        while self.buffer.len() >= 9 {
            let length = u32::from_be_bytes([0, self.buffer[0], self.buffer[1], self.buffer[2]]) as usize;
            if self.buffer.len() < 9 + length {
                break;
            }
            let whole: Vec<u8> = self.buffer.drain(..9 + length).collect();
            let (kind, flags, payload) = (whole[3], whole[4], whole[9..].to_vec());
            let stream = u32::from_be_bytes([whole[5] & 0x7f, whole[6], whole[7], whole[8]]);
            if kind == WINDOW_UPDATE && stream == 0 {
                self.window += i64::from(u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]]));
            }
            if kind == SETTINGS && flags & ACK == 0 {
                // Its windows hold from then on.
                self.send(SETTINGS, ACK, 0, &[])?;
            }
            frames.push(Frame { kind, flags, stream, payload });
        }
        Ok(frames)
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// The headers of a gRPC call, without any compression.
pub(crate) fn headers(path: &str) -> Vec<u8> {
    let mut out = vec![0x83, 0x86, 0x04, path.len() as u8];
    out.extend_from_slice(path.as_bytes());
    out.extend_from_slice(b"\x01\x01x");
    out.extend_from_slice(b"\x0f\x10\x10application/grpc");
    out
}

/// A gRPC message: its length said, which need not be true.
pub(crate) fn message(length: u32, bytes: &[u8]) -> Vec<u8> {
    [&[0][..], &length.to_be_bytes(), bytes].concat()
}
