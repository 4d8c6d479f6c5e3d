//! Retention: once a second, streams that are to keep only so much are trimmed to it, exactly, as by an explicit trim.
//!
//! Where several limits are set, the one that drops most counts. A stream that keeps what is not acknowledged drops what
//! every group has acknowledged, and nothing else, as long as it has a group.

use std::sync::Arc;

use super::command::{Command, TrimAsked};
use super::reader::Reader;
use super::reply;
use super::shared::Shared;
use super::view::StreamView;
use crate::clock::Now;
use crate::error::{Reason, Result};
use crate::format::block::AppendTime;
use crate::stream::{Keep, TrimRule};
use crate::types::{EntryId, Retention};

/// A stream that is not to keep everything.
#[derive(Debug)]
pub(crate) struct Retained {
    pub(crate) view: Arc<StreamView>,
    pub(crate) retention: Retention,
    /// Whether it keeps what is not acknowledged, and has a group.
    pub(crate) unacknowledged: bool,
}

/// Looks after retention.
pub(crate) struct Retainer {
    shared: Arc<Shared>,
    reader: Arc<Reader>,
    /// When it began.
    since: Now,
}

impl Retainer {
    pub(crate) fn new(shared: &Arc<Shared>, reader: &Arc<Reader>) -> Self {
        Self { shared: Arc::clone(shared), reader: Arc::clone(reader), since: shared.clock.now() }
    }

    /// Whether something that was appended at this time is older than so much. A clock that is set makes nothing old.
    fn is_older(&self, time: AppendTime, age_max_ms: u64) -> bool {
        let now = self.shared.clock.now();
        let age_ms = match time.engine_ms {
            Some(engine_ms) => now.engine_ms.saturating_sub(engine_ms),
            // By the wall clock, without its jumps forward in this run.
            None => {
                let steady_ms = self.since.wall_ms + now.engine_ms.saturating_sub(self.since.engine_ms);
                now.wall_ms.min(steady_ms).saturating_sub(time.wall_ms)
            }
        };
        age_ms > age_max_ms
    }

    /// Trims what is over its limits now. Ends early where the engine fails or stops.
    pub(crate) async fn step(&self) {
        let (reply, answer) = reply::channel();
        let retained = match self.shared.send(Command::Retained { reply }) {
            Ok(()) => answer.await.and_then(Result::ok).unwrap_or_default(),
            Err(_) => return,
        };
        for stream in retained {
            match self.trim(&stream).await {
                Err(error) if error.reason() == Reason::Corrupt => {
                    let stream = stream.view.name();
                    tracing::warn!(%stream, %error, "retention cannot be kept because of damage");
                }
                // Full queues and stops: there is a next time, or none is needed.
                Ok(()) | Err(_) => {}
            }
        }
    }

    async fn trim(&self, stream: &Retained) -> Result<()> {
        let Retained { view, retention, unacknowledged } = stream;
        let mut keep = Keep::ALL;
        if !unacknowledged {
            keep.entries = retention.entries_max.unwrap_or(keep.entries);
            keep.bytes = retention.bytes_max.unwrap_or(keep.bytes);
        }
        if let Some(age_max_ms) = retention.age_max_ms.filter(|_| !unacknowledged) {
            // What is appended from now on is not old.
            let beyond = view.extent().last.next().unwrap_or(EntryId::MAX);
            let bound = self.reader.bound_younger(view, &|time| self.is_older(time, age_max_ms))?;
            keep.from = bound.unwrap_or_default().min(beyond);
        }
        let rule = TrimRule { keep, nodes: None };
        let asked = TrimAsked { stream: view.number, rule, unacknowledged: *unacknowledged, dry_run: false };
        let (reply, answer) = reply::channel();
        self.shared.send(Command::Trim { asked, reply })?;
        answer.or_draining().await.map(|_| ())
    }
}
