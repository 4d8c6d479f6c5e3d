//! MULTI, EXEC, DISCARD: commands that are kept, and then run as one transaction of the engine.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::args::Args;
use super::refusal::Refusal;
use super::reply::Reply;
use super::room::Share;
use super::session::Session;
use super::work::READS_MAX_MS;
use crate::engine::TransactionRoom;

/// What the commands of one transaction take at most, counted as below: what they do fits one commit.
const TRANSACTION_BYTES_MAX: usize = 7 << 20;
/// What an argument counts beside its bytes, a command beside its arguments, and a key that may have to be made.
const ARGUMENT_BYTES: usize = size_of::<Bytes>();
const COMMAND_BYTES: usize = 64;
const KEY_BYTES: usize = 512;
/// Bytes of replies after which commands of a transaction that only read are refused.
const REPLIES_BYTES_MAX: usize = 64 << 20;

/// A transaction that was begun.
#[derive(Clone)]
pub(super) struct Transaction {
    requests: Vec<Vec<Bytes>>,
    /// What they take.
    room: TransactionRoom,
    /// Keys that may have to be made.
    keys: HashSet<Bytes>,
    /// Whether one of them was refused: then none is run.
    pub(super) refused: bool,
    /// What it holds of the room of all connections.
    share: Arc<Share>,
}

impl Transaction {
    fn new(share: Share) -> Self {
        let (requests, room, keys) = (Vec::new(), TransactionRoom::default(), HashSet::new());
        Self { requests, room, keys, refused: false, share: Arc::new(share) }
    }

    /// Commands that were kept.
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn queue(&mut self, name: &str, request: &[Bytes]) -> Result<Reply, Refusal> {
        let mut bytes = COMMAND_BYTES + request.iter().map(|argument| argument.len() + ARGUMENT_BYTES).sum::<usize>();
        let makes = match name {
            "xadd" => request.get(1),
            "xgroup" => request.get(2),
            _ => None,
        };
        if let Some(key) = makes.filter(|key| !self.keys.contains(*key)) {
            bytes += KEY_BYTES;
            self.keys.insert(Bytes::copy_from_slice(key));
        }
        if self.room.bytes + bytes > TRANSACTION_BYTES_MAX {
            self.refused = true;
            return Err(Refusal::new("ERR the transaction is larger than 7 MiB, which is what one commit takes"));
        }
        if let Err(error) = self.share.hold(self.room.bytes + bytes) {
            self.refused = true;
            return Err(error.into());
        }
        self.room.bytes += bytes;
        self.room.grows |= makes.is_some();
        // Copied: they do not keep the larger pieces of memory that they were received in.
        self.requests.push(request.iter().map(|argument| Bytes::copy_from_slice(argument)).collect());
        Ok(Reply::Simple("QUEUED"))
    }
}

impl Session {
    pub(super) fn multi(&mut self) -> Result<Reply, Refusal> {
        if self.queued.is_some() {
            return Err(Refusal::new("ERR MULTI calls can not be nested"));
        }
        self.queued = Some(Transaction::new(self.port.room.share()));
        Ok(Reply::OK)
    }

    pub(super) fn discard(&mut self) -> Result<Reply, Refusal> {
        self.queued.take().map(|_| Reply::OK).ok_or_else(|| Refusal::new("ERR DISCARD without MULTI"))
    }

    /// Runs what was kept, on the engine's own thread: it goes on to its end even if this connection does not.
    pub(super) async fn exec(&mut self) -> Result<Reply, Refusal> {
        let transaction = self.queued.take().ok_or_else(|| Refusal::new("ERR EXEC without MULTI"))?;
        if transaction.refused {
            return Err(Refusal::new("EXECABORT Transaction discarded because of previous errors."));
        }
        let Transaction { requests, room, .. } = transaction;
        self.check_work(&requests).await?;
        let mut session = self.clone();
        let done = self.engine.transaction(room, move |engine| async move {
            (session.engine, session.is_lent) = (engine, true);
            let replies = session.run_all(&requests).await;
            (session, replies)
        });
        let aborted = |error| {
            let Refusal(why) = Refusal::from(error);
            Refusal::new(format!("EXECABORT Transaction discarded because of: {why}"))
        };
        let (session, replies) = done.await.map_err(aborted)?;
        *self = Self { engine: self.engine.clone(), is_lent: false, ..session };
        Ok(Reply::Array(replies))
    }

    async fn run_all(&mut self, requests: &[Vec<Bytes>]) -> Vec<Reply> {
        let (mut replies, mut bytes) = (Vec::with_capacity(requests.len()), 0);
        let begun = self.clock.micros();
        for request in requests {
            let began = self.clock.micros();
            let (name, outcome) = match self.known(request) {
                Ok(name) if bytes > REPLIES_BYTES_MAX && only_reads(name) => {
                    (name, Err(Refusal::new("ERR the replies of the transaction are larger than 64 MiB")))
                }
                Ok(name) if began.saturating_sub(begun) > READS_MAX_MS * 1_000 && only_reads(name) => {
                    let why = format!("ERR the transaction has run for {READS_MAX_MS} ms and reads nothing more");
                    (name, Err(Refusal::new(why)))
                }
                Ok(name) => (name, self.execute(name, Args::new(&request[1..]), false).await),
                Err(refusal) => ("", Err(refusal)),
            };
            let reply = outcome.unwrap_or_else(|refusal| {
                self.port.stats.refused(&refusal);
                refusal.into()
            });
            self.port.stats.called(name, 1, self.clock.micros() - began);
            self.port.stats.answered(name, &reply);
            bytes += reply.bytes();
            replies.push(reply);
        }
        replies
    }
}

/// Whether all that a command does is to show, or to hand out, what is there.
fn only_reads(name: &str) -> bool {
    matches!(
        name,
        "keys"
            | "scan"
            | "dbsize"
            | "xrange"
            | "xrevrange"
            | "xread"
            | "xreadgroup"
            | "xclaim"
            | "xautoclaim"
            | "xinfo"
            | "xpending"
    )
}
