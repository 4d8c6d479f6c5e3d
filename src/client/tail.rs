//! Following a stream, over lost connections.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream::BoxStream;
use tonic::Streaming;

use super::StreamHandle;
use super::backoff::Backoff;
use super::entry::{Entry, StartAt};
use super::error::{Error, ErrorKind, Result};
use crate::proto::v1;
use crate::types::EntryId;

/// How long a tail tries to go on after it lost its server.
const RETRY_FOR: Duration = Duration::from_secs(60);

/// A [`Stream`] of the entries of a stream, in id order, each once: what there is, then what comes.
///
/// A tail that loses its server goes on where it was, with growing pauses, and gives up after a minute without success.
/// An error is its last item. A tail that is read slowly holds the server back; what the stream drops before it gets there
/// is told by [`Tail::take_gap`].
pub struct Tail {
    items: BoxStream<'static, Result<Item>>,
    gap: Option<Gap>,
}

/// An entry, and what is missing before it.
struct Item {
    gap: Option<Gap>,
    entry: Entry,
}

/// Entries that were trimmed before a tail got to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// They come after this id: where the tail was, or where it was to start.
    pub after: EntryId,
    /// They come before this id.
    pub before: EntryId,
    /// How many. Unset where the tail was to start, or to go on, below what was trimmed already: it may be none then.
    pub missed: Option<u64>,
}

/// What a tail knows.
struct State {
    stream: StreamHandle,
    /// Where to go on.
    from: StartAt,
    open: Option<Streaming<v1::TailEventsResponse>>,
    entries: VecDeque<Item>,
    /// What is missing before the next entry.
    gap: Option<Gap>,
    backoff: Backoff,
    is_over: bool,
}

impl Tail {
    pub(super) async fn open(stream: StreamHandle, from: StartAt) -> Result<Self> {
        // What comes from now on must stay so when the connection is made again.
        let from = match from {
            StartAt::Latest => {
                let last = stream.get().await?.last_id.map_or(EntryId::ZERO, EntryId::from);
                StartAt::After(last)
            }
            other => other,
        };
        let backoff = Backoff::new(RETRY_FOR);
        let mut state =
            State { stream, from, open: None, entries: VecDeque::new(), gap: None, backoff, is_over: false };
        state.connect().await?;
        let items = futures::stream::unfold(state, |mut state| async move {
            let item = state.next().await?;
            Some((item, state))
        });
        Ok(Self { items: Box::pin(items), gap: None })
    }

    /// What was trimmed, and so never came, between the entry that came last and the one before it (or the start of the
    /// tail). It is told once: look after each entry.
    pub fn take_gap(&mut self) -> Option<Gap> {
        self.gap.take()
    }
}

impl State {
    async fn connect(&mut self) -> Result<()> {
        let request = v1::TailEventsRequest {
            stream: self.stream.stream.clone(),
            from: Some(self.from.into()),
            ..Default::default()
        };
        let client = &self.stream.client;
        self.open = Some(client.call(client.raw_events().tail_events(request)).await?);
        Ok(())
    }

    async fn next(&mut self) -> Option<Result<Item>> {
        loop {
            if let Some(entry) = self.entries.pop_front() {
                return Some(Ok(entry));
            }
            if self.is_over {
                return None;
            }
            if let Err(error) = self.fill().await {
                self.open = None;
                let pause = if error.is_retryable() { self.backoff.pause(error.retry_delay()) } else { None };
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => {
                        self.is_over = true;
                        return Some(Err(error));
                    }
                }
            }
        }
    }

    /// Waits for more entries.
    async fn fill(&mut self) -> Result<()> {
        if self.open.is_none() {
            self.connect().await?;
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        let Some(message) = open.message().await? else {
            return Err(Error::new(ErrorKind::Lost, "the server ended the tail"));
        };
        if let Some(gap) = message.gap {
            self.gap = Some(joined(self.gap, &gap));
        }
        for event in message.events {
            let entry = Entry::try_from(event)?;
            self.from = StartAt::After(entry.id);
            self.entries.push_back(Item { gap: self.gap.take(), entry });
        }
        if let Some(position) = message.position {
            self.from = StartAt::After(position.into());
        }
        self.backoff.reset();
        Ok(())
    }
}

/// A gap behind another, with nothing in between.
fn joined(before: Option<Gap>, gap: &v1::Gap) -> Gap {
    let id = |id: Option<v1::EntryId>| id.map_or(EntryId::ZERO, EntryId::from);
    let gap = Gap { after: id(gap.after), before: id(gap.before), missed: gap.missed };
    let Some(first) = before else { return gap };
    Gap { after: first.after, before: gap.before, missed: first.missed.zip(gap.missed).map(|(a, b)| a + b) }
}

impl Stream for Tail {
    type Item = Result<Entry>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = std::task::ready!(self.items.as_mut().poll_next(cx));
        Poll::Ready(item.map(|item| {
            item.map(|Item { gap, entry }| {
                self.gap = gap.or(self.gap);
                entry
            })
        }))
    }
}
