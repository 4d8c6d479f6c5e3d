//! What a connection of HTTP has under way, so that a drain waits for that and for nothing else.
//!
//! A request is under way until its answer is handed over whole. Streams without an end of their own (live views, tails,
//! sessions) are not: the front ends end them when the server drains, and whoever does not read that is not waited for.
//! An answer that was handed over is on its way for as long as the peer takes some of it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::sync::Notify;

/// What one connection has under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Work(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicUsize,
    finished: Notify,
    /// Bytes that the peer took.
    written: AtomicU64,
}

/// A request that is under way until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Counts>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.finished.notify_one();
        }
    }
}

impl Work {
    /// A request begins.
    pub(super) fn begin(&self) -> UnderWay {
        self.0.requests.fetch_add(1, Ordering::AcqRel);
        UnderWay(Arc::clone(&self.0))
    }

    /// The peer took so many bytes.
    pub(super) fn wrote(&self, bytes: usize) {
        self.0.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Ends once no request is under way and the peer has taken nothing for a while.
    pub(super) async fn over(&self) {
        loop {
            let finished = self.0.finished.notified();
            if self.0.requests.load(Ordering::Acquire) > 0 {
                finished.await;
                continue;
            }
            let before = self.0.written.load(Ordering::Relaxed);
            tokio::time::sleep(SILENCE_MAX).await;
            let is_silent = self.0.written.load(Ordering::Relaxed) == before;
            if is_silent && self.0.requests.load(Ordering::Acquire) == 0 {
                return;
            }
        }
    }
}

impl UnderWay {
    /// The answer of the request, which is under way until its body is handed over. One that is there as a whole is handed
    /// over at once, and one without an end is waited for by nobody.
    pub(super) fn until_answered(self, answer: Response, is_stream: bool) -> Response {
        let is_view = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
        if is_stream || is_view || answer.body().size_hint().exact().is_some() {
            return answer;
        }
        answer.map(|body| Body::new(Counted { body, _request: self }))
    }
}

/// A body whose request is under way until it is dropped.
struct Counted {
    body: Body,
    _request: UnderWay,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx).map_err(Into::into)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How long a peer that is to be given an answer may take nothing of it while the server drains.
const SILENCE_MAX: Duration = Duration::from_millis(500);
