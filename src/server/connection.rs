//! One connection: its handshake, its HTTP version, its requests, its end.
//!
//! When the server drains, it lasts as long as something is under way on it (`work.rs`), and no longer.
//!
//! Bounded in time where the peer could hold it for nothing: the TLS handshake, the first bytes that tell the HTTP
//! version, and the headers of HTTP/1 requests have a deadline; HTTP/2 peers must answer pings.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::dispatch::Dispatch;
use super::settings::Settings;
use super::work::Work;
use crate::resp::{Ends, Resp};

/// What all connections of a server share.
pub(super) struct Connections {
    http: auto::Builder<TokioExecutor>,
    tls: Option<TlsAcceptor>,
    service: Dispatch,
    header_timeout: Duration,
    /// Asks connections to finish what they have.
    drain: CancellationToken,
    /// Tells them that time is up.
    stop: CancellationToken,
}

impl Connections {
    pub(super) fn new(
        settings: &Settings,
        tls: Option<TlsAcceptor>,
        service: Dispatch,
        drain: CancellationToken,
        stop: CancellationToken,
    ) -> Self {
        let header_timeout = Duration::from_millis(settings.header_timeout_ms);
        Self { http: http_builder(settings, header_timeout), tls, service, header_timeout, drain, stop }
    }

    /// Serves one connection to its end, or to the server's.
    pub(super) async fn serve(&self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot turn off the delay of small packets");
        }
        let served = async {
            match &self.tls {
                None => self.serve_http(stream).await,
                Some(tls) => {
                    let handshake = tokio::time::timeout(self.header_timeout, tls.accept(stream));
                    let handshake = tokio::select! {
                        handshake = handshake => handshake,
                        () = self.drain.cancelled() => return,
                    };
                    match handshake {
                        Ok(Ok(stream)) => self.serve_http(stream).await,
                        Ok(Err(error)) => tracing::debug!(%error, "tls handshake failed"),
                        Err(_) => tracing::debug!("tls handshake took too long"),
                    }
                }
            }
        };
        tokio::select! {
            () = served => {}
            () = self.stop.cancelled() => tracing::debug!("connection cut: the drain timeout is over"),
        }
    }

    async fn serve_http<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let work = Work::default();
        let io = TokioIo::new(FirstBytes::new(stream, self.header_timeout, work.clone()));
        let service = self.service.for_connection(work.clone());
        let mut connection = pin!(self.http.serve_connection_with_upgrades(io, service));
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = self.drain.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    outcome = connection.as_mut() => outcome,
                    () = work.over() => {
                        tracing::debug!("connection cut: nothing is under way, and its peer takes nothing");
                        Ok(())
                    }
                }
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "connection ended with an error");
        }
    }
}

/// Serves a connection of the Redis port to its end, or to the server's: until `stop` at the latest.
pub(super) async fn serve_resp(stream: TcpStream, tls: Option<TlsAcceptor>, resp: Arc<Resp>, stop: CancellationToken) {
    tokio::select! {
        () = serve_redis(stream, tls, resp) => {}
        () = stop.cancelled() => tracing::debug!("connection cut: the drain timeout is over"),
    }
}

async fn serve_redis(stream: TcpStream, tls: Option<TlsAcceptor>, resp: Arc<Resp>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot turn off the delay of small packets");
    }
    let ends = stream.peer_addr().and_then(|peer| Ok(Ends { peer, local: stream.local_addr()? })).ok();
    match tls {
        None => resp.serve_between(stream, ends).await,
        Some(tls) => match tokio::time::timeout(RESP_HANDSHAKE_MAX, tls.accept(stream)).await {
            Ok(Ok(stream)) => resp.serve_between(stream, ends).await,
            Ok(Err(error)) => tracing::debug!(%error, "tls handshake failed"),
            Err(_) => tracing::debug!("tls handshake took too long"),
        },
    }
}

/// How long a client of the Redis port may take to complete a TLS handshake.
const RESP_HANDSHAKE_MAX: Duration = Duration::from_secs(10);

fn http_builder(settings: &Settings, header_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(header_timeout).max_buf_size(HTTP1_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .adaptive_window(false)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(settings.http2_streams_max)
        .max_header_list_size(HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE);
    builder
}

/// A stream whose peer must send its first bytes, enough to tell the HTTP version, in time. Counts what the peer takes.
struct FirstBytes<S> {
    stream: S,
    work: Work,
    missing: usize,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> FirstBytes<S> {
    fn new(stream: S, within: Duration, work: Work) -> Self {
        Self { stream, work, missing: PREFACE_BYTES, deadline: Some(Box::pin(tokio::time::sleep(within))) }
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.work.wrote(bytes);
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstBytes<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(mut deadline) = self.deadline.take() else {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        };
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Pending => {
                if deadline.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                self.deadline = Some(deadline);
                Poll::Pending
            }
            Poll::Ready(outcome) => {
                self.missing = self.missing.saturating_sub(buf.filled().len() - before);
                if self.missing > 0 {
                    self.deadline = Some(deadline);
                }
                Poll::Ready(outcome)
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstBytes<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(written)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(written)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// The preface of HTTP/2: so much tells which version the peer speaks. Every HTTP/1.1 request with a host is longer.
const PREFACE_BYTES: usize = 24;
/// Request line and headers of an HTTP/1 request.
const HTTP1_BUFFER_BYTES: usize = 64 << 10;
/// Headers of an HTTP/2 request.
const HEADER_LIST_BYTES: u32 = 32 << 10;
/// What one stream may send ahead of its reader.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// What all streams of a connection may send ahead of their readers.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Streams that a peer may have opened and reset before they were looked at.
const PENDING_RESETS: usize = 64;
/// How often HTTP/2 peers are pinged, and how long they may take to answer.
const KEEPALIVE: Duration = Duration::from_secs(20);
